"""May a trial start from the weights of a smaller trial of the same candidate?"""
