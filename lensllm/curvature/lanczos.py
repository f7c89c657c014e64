"""Quadratic forms of the positive part of a matrix given only by products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class QuadraticForm:
    """What Lanczos found for one vector.

    Attributes:
        positive: vᵀ A⁺ v, where A⁺ is A without its negative eigenvalues.
        total: vᵀ A v, exact.
        change: How much the last step changed the quadrature, relative to it; small when converged.
        n_products: Products with A.
    """

    positive: float
    total: float
    change: float
    n_products: int


def positive_quadratic_form(
    product: Callable[[Tensor], Tensor], vector: Tensor, n_steps: int = 30, tolerance: float = 1e-3
) -> QuadraticForm:
    r"""vᵀ A⁺ v for a symmetric A, by Lanczos quadrature (Golub and Meurant, 1994).

    k steps of Lanczos started at v give a k × k tridiagonal T with eigenpairs (θ_j, s_j), and
    vᵀ A⁺ v ≈ ‖v‖² Σ_j s_j1² max(θ_j, 0). It is exact once k reaches the number of distinct
    eigenvalues with a component in v. Before that, the kink of max(θ, 0) at 0, where the
    eigenvalues of a Hessian crowd, lets the sum oscillate about its limit from step to step: a run
    that is cut off returns the mean of its last two sums. The basis is orthogonalised twice in
    every step.

    Args:
        product: v ↦ A v.
        vector: v, shape (dim,).
        n_steps: Largest number of steps, hence of products.
        tolerance: Stop when three steps in a row change the value by less than this share.

    Returns:
        The value, 0 for v = 0.

    Raises:
        ValueError: `n_steps` is not positive, or a product is not finite.
    """
    if n_steps <= 0:
        raise ValueError(f"Expected `n_steps` > 0, got {n_steps}")
    norm = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    if norm == 0.0:
        return QuadraticForm(0.0, 0.0, 0.0, 0)
    basis = [vector / norm]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    value, previous, change, calm = 0.0, 0.0, float("inf"), 0
    exact = False
    for _ in range(min(n_steps, vector.numel())):
        image = product(basis[-1])
        if not bool(torch.isfinite(image).all()):
            raise ValueError("Expected finite Hessian-vector products, got values that are not")
        diagonal.append(_dot(basis[-1], image))
        for _ in range(2):
            for direction in basis:
                image = image - _dot(direction, image) * direction
        rest = float(torch.linalg.vector_norm(image, dtype=torch.float64))
        previous, value = value, norm**2 * _first_moment(diagonal, off_diagonal)
        change = abs(value - previous) / max(abs(value), 1e-12 * norm**2)
        calm = calm + 1 if value > 0 and change < tolerance else 0
        scale = max(map(abs, diagonal + off_diagonal))
        exact = rest <= 100 * torch.finfo(vector.dtype).eps * scale
        if calm >= 3 or exact:
            break
        off_diagonal.append(rest)
        basis.append(image / rest)
    if not exact and 1 < len(diagonal) < vector.numel():
        value = 0.5 * (value + previous)
    return QuadraticForm(value, norm**2 * diagonal[0], change, len(diagonal))


def _first_moment(diagonal: list[float], off_diagonal: list[float]) -> float:
    """Σ_j s_j1² max(θ_j, 0) of the tridiagonal matrix."""
    matrix = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    values, vectors = np.linalg.eigh(matrix)
    return float((vectors[0] ** 2 * np.maximum(values, 0.0)).sum())


def _dot(left: Tensor, right: Tensor) -> float:
    return float(torch.dot(left.double(), right.double()))
