"""The terms of LensLLM's bound, and how they change with the number of samples.

The bound has a remainder O(n^(-3/4)) whose constant is unknown, and its C is here the largest loss
observed. Only the terms of the bound are therefore computed, not a certified bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class BoundTerms:
    r"""Terms of LensLLM's Theorem 2 (Zeng et al., ICML 2025, after Ju et al., ICML 2022).

    L(f_ŵ) ≤ (1 + ε) L̂(f_ŵ) + (1 + ε) √C Σ_i √h_i / √n + O(n^(-3/4)), h_i ≥ max v_iᵀ H_i⁺ v_i.

    Attributes:
        n_samples: Fine-tuning samples n.
        training_loss: L̂, nats per target token.
        hessian: h_i by layer, as found on a sample.
        max_loss: C, a bound on the loss; here the largest loss of an example that was observed.
        epsilon: ε > 0.

    Example:
        >>> terms = BoundTerms(400, 2.0, (1.0, 4.0), max_loss=9.0, epsilon=0.5)
        >>> terms.empirical_term, round(terms.hessian_term, 6)
        (3.0, 0.675)
    """

    n_samples: int
    training_loss: float
    hessian: tuple[float, ...]
    max_loss: float
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if self.n_samples <= 0:
            raise ValueError(f"Expected `n_samples` > 0, got {self.n_samples}")
        if not self.epsilon > 0:
            raise ValueError(f"Expected `epsilon` > 0, got {self.epsilon:g}")
        if not self.hessian or min(self.hessian) < 0:
            raise ValueError(f"Expected `hessian` terms >= 0 of each layer, got {self.hessian}")

    @property
    def empirical_term(self) -> float:
        """(1 + ε) L̂."""
        return (1 + self.epsilon) * self.training_loss

    @property
    def hessian_term(self) -> float:
        """(1 + ε) √C Σ_i √h_i / √n."""
        total = sum(map(math.sqrt, self.hessian))
        return (1 + self.epsilon) * math.sqrt(self.max_loss / self.n_samples) * total

    @property
    def rate_of_remainder(self) -> float:
        """n^(-3/4): the remainder without its unknown constant."""
        return self.n_samples**-0.75


@dataclass(frozen=True)
class HessianDecay:
    r"""An envelope h_i(n) ≤ C_2 n^(-β_2) of the measured h_i, as used in Corollary 1.

    L ≤ (1 + ε) L̂ + C_3 n^(-β_3) + O(n^(-3/4)), C_3 = √(C l C_2), β_3 = (β_2 + 1) / 2.

    Attributes:
        c2: C_2, the least that holds for every measured h_i at this β_2.
        beta2: β_2, the slope of a regression.
        beta2_error: Standard error of β_2; `nan` for two sizes.
        max_loss: C.
        n_layers: l.
    """

    c2: float
    beta2: float
    beta2_error: float
    max_loss: float
    n_layers: int

    @property
    def c3(self) -> float:
        """C_3 as the paper prints it.

        From h_i ≤ C_2 n^(-β_2) for each layer alone, Σ_i √h_i gives l √(C C_2), which is √l times
        as much.
        """
        return math.sqrt(self.max_loss * self.n_layers * self.c2)

    @property
    def beta3(self) -> float:
        """β_3."""
        return (self.beta2 + 1) / 2

    def transition_size(self) -> float:
        """Size n at which C_3 n^(-β_3) overtakes n^(-3/4), the theoretical transition.

        Returns:
            n* = C_3^(1 / (β_3 − 3/4)): above it the Hessian term is the larger one. `nan` where
            β_3 ≥ 3/4, so that the Hessian term falls at least as fast and overtakes nothing.
        """
        gap = self.beta3 - 0.75
        if gap >= 0 or self.c3 <= 0:
            return math.nan
        log_size = math.log(self.c3) / gap
        return math.exp(log_size) if log_size < 700 else math.inf


def fit_hessian_decay(
    n_samples: ArrayLike, hessian: Sequence[Sequence[float]], max_loss: float
) -> HessianDecay:
    """An envelope of the measured h_i: h_i ≤ C_2 n^(-β_2) at every size and layer.

    β_2 is the slope of a least-squares line of log max_i h_i on log n. That line passes below
    about half of the h_i that it is to bound, so its intercept is raised to the largest residual:
    C_2 = max_n (n^β_2 max_i h_i).

    Args:
        n_samples: Sizes n > 0, shape (n_sizes,), at least two different ones.
        hessian: h_i by size and layer, shape (n_sizes, n_layers).
        max_loss: C.

    Raises:
        ValueError: There are fewer than two sizes, or a largest h is not positive.

    Example:
        >>> decay = fit_hessian_decay([1, 10, 100], [[1.0], [1.0], [0.01]], max_loss=1.0)
        >>> round(decay.beta2, 6), round(decay.c2, 6)  # the line alone: 10^(1/3) = 2.15
        (1.0, 10.0)
    """
    sizes, terms = np.asarray(n_samples, dtype=float), np.asarray(hessian, dtype=float)
    if terms.ndim != 2 or len(terms) != len(sizes) or len(np.unique(sizes)) < 2:
        raise ValueError(
            "Expected Hessian terms of shape (n_sizes, n_layers) at two sizes or more, got shape "
            f"{terms.shape} and {len(np.unique(sizes))} sizes"
        )
    largest = terms.max(axis=1)
    if not (largest > 0).all() or not (sizes > 0).all():
        raise ValueError(f"Expected positive sizes and Hessian terms, got {largest.min():g}")
    x, y = np.log(sizes), np.log(largest)
    slope, intercept = np.polyfit(x, y, 1)
    rest, error = y - slope * x - intercept, math.nan
    if len(x) > 2:
        error = math.sqrt((rest**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    c2 = float(np.exp((y - slope * x).max()))
    return HessianDecay(c2, float(-slope), error, float(max_loss), terms.shape[1])
