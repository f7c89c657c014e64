"""What a fit minimises: Σ_i w_i ρ(r_i) of residuals r_i on log loss or on loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensllm.laws.base import Array


@dataclass(frozen=True)
class Objective:
    """A loss function ρ of residuals, and the scale of the residuals.

    Attributes:
        name: Name in tables.
        on_log: Whether residuals are of log loss; of loss otherwise.
        delta: Where ρ turns from quadratic to linear; infinite for squares.
    """

    name: str
    on_log: bool
    delta: float = np.inf

    def rho(self, residuals: Array) -> Array:
        """ρ(r): r²/2 up to |r| = δ, δ (|r| − δ/2) beyond (Huber, 1964)."""
        size = np.abs(residuals)
        inner = np.minimum(size, self.delta)
        return inner * (size - 0.5 * inner)

    def psi(self, residuals: Array) -> Array:
        """ρ'(r)."""
        return np.clip(residuals, -self.delta, self.delta)

    def weight(self, residuals: Array) -> Array:
        """ρ'(r) / r, the weight of iteratively re-weighted least squares."""
        if np.isinf(self.delta):
            return np.ones_like(residuals)
        return self.delta / np.maximum(np.abs(residuals), self.delta)

    def curvature(self, residuals: Array) -> Array:
        """ρ''(r)."""
        return (np.abs(residuals) <= self.delta).astype(float)


def make_objective(name: str, delta: float = 1e-3) -> Objective:
    """The objective with a given name.

    Args:
        name: `huber` (Huber on log loss, as in LensLLM's setup after Hoffmann et al. 2022),
            `squared_log` or `squared` (on loss).
        delta: δ of `huber`.

    Raises:
        ValueError: There is no such objective, or δ is not > 0.
    """
    if not delta > 0:
        raise ValueError(f"Expected `delta` > 0, got {delta:g}")
    objectives = {
        "huber": Objective("huber", True, delta),
        "squared_log": Objective("squared_log", True),
        "squared": Objective("squared", False),
    }
    if name not in objectives:
        raise ValueError(f"Expected an objective of {', '.join(objectives)}, got {name!r}")
    return objectives[name]
