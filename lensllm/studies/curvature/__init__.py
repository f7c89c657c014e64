"""Studies of kernels and Hessian terms as predictors."""
