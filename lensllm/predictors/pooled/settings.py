"""Settings of the pooled predictor."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

# Exponents β of D that are considered.
_BETAS = np.exp(np.linspace(math.log(0.07), math.log(1.15), 10))


@dataclass(frozen=True)
class PooledSettings:
    """Settings of the pooled predictor; the defaults are chosen by `lensllm tune`.

    Attributes:
        exponent: Prior median of the exponent β that all candidates of a task share.
        exponent_spread: Prior standard deviation of log β.
        floor_shares: Floors E that are considered, as shares of the smallest loss measured.
        decay: Weight of a point relative to one twice as large, in (0, 1].
        validation_strength: Number of errors that the forward validation counts as, for β and E.
        reversion: Prior of κ, the share of a level above the mean that is lost per doubling.
        reversion_strength: Number of slopes that this prior counts as.
        family_variance: Variance of rates between families over that of their noise.
        model_variance: Variance of rates between candidates of a family over that of their noise.
        task_correlation: Correlation of the candidates' standings between tasks, in [0, 1); 0 to
            ignore them.
        bias_correlation: Correlation between tasks of the error per doubling that all candidates
            share, in [0, 1); 0 to ignore it.
        rate_spread: Prior of the standard deviation of errors per doubling, in log loss.
        spread_strength: Number of later sizes that this prior counts as.
        inflation: Factor on the validated spread of errors, since what lies beyond the measured
            sizes is harder than what lies within.
        tolerance: Error per doubling that cannot be distinguished from 0.
        slope: Prior median over tasks of the mean log-log slope of L − E at the largest size.
        slope_uncertainty: Prior standard deviation over tasks of the log of that mean.
        slope_spreads: Standard deviations of slopes over candidates, as shares of their mean, that
            are considered.
        noise: Prior standard deviation of log(L − E) about its law at a candidate's last point.
        noise_strength: Number of residuals that this prior counts as.
        min_points: Points that a candidate needs to take part in the forward validation.
    """

    exponent: float = 0.5
    exponent_spread: float = 0.5
    floor_shares: tuple[float, ...] = (0.2, 0.4)
    decay: float = 0.3
    validation_strength: float = 4.0
    reversion: float = 0.0
    reversion_strength: float = 5.0
    family_variance: float = 0.5
    model_variance: float = 0.1
    task_correlation: float = 0.5
    bias_correlation: float = 0.5
    rate_spread: float = 0.005
    spread_strength: float = 2.0
    inflation: float = 1.2
    tolerance: float = 0.01
    slope: float = 0.1
    slope_uncertainty: float = 0.7
    slope_spreads: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    noise: float = 0.01
    noise_strength: float = 8.0
    min_points: int = 3

    def __post_init__(self) -> None:
        if not self.floor_shares or not all(0 <= share < 1 for share in self.floor_shares):
            raise ValueError(f"Expected `floor_shares` in [0, 1), got {list(self.floor_shares)}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"Expected `decay` in [0, 1], got {self.decay:g}")
        for name in ("task_correlation", "bias_correlation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` in [0, 1), got {getattr(self, name):g}")
        if not self.slope_spreads or not all(spread > 0 for spread in self.slope_spreads):
            raise ValueError(f"Expected `slope_spreads` > 0, got {list(self.slope_spreads)}")
        if self.min_points < 2:
            raise ValueError(f"Expected `min_points` >= 2, got {self.min_points}")
        free = {"floor_shares", "slope_spreads", "decay", "min_points"}
        free |= {"task_correlation", "bias_correlation"}
        zeroable = {"reversion", "family_variance", "model_variance"}
        for name in sorted({item.name for item in fields(self)} - free):
            value = getattr(self, name)
            if not (math.isfinite(value) and (value > 0 or (name in zeroable and value == 0))):
                sign = ">=" if name in zeroable else ">"
                raise ValueError(f"Expected `{name}` {sign} 0, got {value:g}")

    @property
    def betas(self) -> np.ndarray:
        """Exponents β that are considered, ascending."""
        return _BETAS
