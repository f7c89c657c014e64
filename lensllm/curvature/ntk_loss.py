"""F(Θ, t): the fall of the training loss that the NTK predicts, from one eigendecomposition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class NTKLoss:
    r"""Mean squared residual under gradient flow in the NTK regime (Zeng et al., ICML 2025).

    With Θ = Q Λ Qᵀ and c = Qᵀ (f_0 − y), gradient flow on ½ ‖f − y‖² with learning rate η gives

        F(Θ, t) = (1/n) ‖exp(−η Θ t) (f_0 − y)‖² = (1/n) Σ_i c_i² exp(−2 η λ_i t),

    where the exponential is the matrix exponential. F falls from F(0), the mean squared residual,
    to the part of it that lies in the kernel of Θ.

    Attributes:
        eigenvalues: λ_i ≥ 0 of Θ, descending, shape (n,).
        coefficients: c_i, shape (n,).
        learning_rate: η.

    Example:
        >>> curve = NTKLoss.from_kernel(np.diag([2.0, 1.0]), [1.0, 1.0], learning_rate=0.5)
        >>> float(curve(0.0)), round(float(curve(1.0)), 4)
        (1.0, 0.2516)
    """

    eigenvalues: Array
    coefficients: Array
    learning_rate: float

    def __post_init__(self) -> None:
        values = np.asarray(self.eigenvalues, dtype=float)
        coefficients = np.asarray(self.coefficients, dtype=float)
        if values.ndim != 1 or values.shape != coefficients.shape or not values.size:
            raise ValueError(
                f"Expected as many `coefficients` as `eigenvalues` (> 0), got "
                f"{coefficients.size} and {values.size}"
            )
        for name, array in (("eigenvalues", values), ("coefficients", coefficients)):
            if not np.isfinite(array).all():
                raise ValueError(f"Expected finite `{name}`, got {array[~np.isfinite(array)][0]}")
        if values.min() < 0:
            raise ValueError(f"Expected `eigenvalues` >= 0, got {values.min():g}")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"Expected `learning_rate` > 0, got {self.learning_rate:g}")
        object.__setattr__(self, "eigenvalues", values)
        object.__setattr__(self, "coefficients", coefficients)

    @classmethod
    def from_kernel(cls, kernel: ArrayLike, residual: ArrayLike, learning_rate: float) -> NTKLoss:
        """Decompose a kernel.

        Args:
            kernel: Θ, symmetric and positive semi-definite up to rounding, shape (n, n).
            residual: f_0 − y, shape (n,).
            learning_rate: η > 0.

        Raises:
            ValueError: Θ is not square, not symmetric, or clearly not positive semi-definite.
        """
        theta, start = np.asarray(kernel, dtype=float), np.asarray(residual, dtype=float)
        if theta.ndim != 2 or theta.shape != (len(start), len(start)):
            raise ValueError(
                f"Expected a kernel of shape ({len(start)}, {len(start)}) for {len(start)} "
                f"residuals, got {theta.shape}"
            )
        size = np.abs(theta).max()
        skew = np.abs(theta - theta.T).max()
        if not skew <= 1e-6 * size:
            raise ValueError(f"Expected a symmetric kernel, got entries {skew:g} apart")
        values, vectors = np.linalg.eigh(0.5 * (theta + theta.T))
        if values[0] < -1e-4 * values[-1]:
            raise ValueError(
                f"Expected a positive semi-definite kernel, got the eigenvalue {values[0]:g} "
                f"beside {values[-1]:g}"
            )
        return cls(np.maximum(values[::-1], 0.0), (vectors.T @ start)[::-1], learning_rate)

    @property
    def n_examples(self) -> int:
        """Probe examples n."""
        return len(self.eigenvalues)

    @property
    def weights(self) -> Array:
        """c_i² / n, shape (n,): what each direction adds to F(0)."""
        return self.coefficients**2 / self.n_examples

    @property
    def rates(self) -> Array:
        """2 η λ_i, shape (n,): how fast each direction is learned, per step."""
        return 2.0 * self.learning_rate * self.eigenvalues

    def __call__(self, n_steps: ArrayLike) -> Array:
        """F(Θ, t) at t ≥ 0 steps, elementwise."""
        t = np.asarray(n_steps, dtype=float)[..., None]
        return (self.weights * np.exp(-self.rates * t)).sum(axis=-1)

    @property
    def alignment(self) -> float:
        """rᵀ Θ r / (‖r‖² λ_max) in [0, 1]: 1 where the residual lies along the top direction."""
        total = (self.coefficients**2).sum()
        if total == 0 or self.eigenvalues[0] == 0:
            return float("nan")
        return float((self.coefficients**2 * self.eigenvalues).sum() / total / self.eigenvalues[0])

    @property
    def captured(self) -> Array:
        """Share of ‖r‖² in the first k eigendirections, k = 1..n, shape (n,)."""
        energy = self.coefficients**2
        return np.cumsum(energy) / energy.sum()

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of λ_i / Σ λ (Roy and Vetterli, 2007): 1 to n."""
        total = self.eigenvalues.sum()
        if total == 0:
            return float("nan")
        shares = self.eigenvalues[self.eigenvalues > 0] / total
        return float(np.exp(-(shares * np.log(shares)).sum()))
