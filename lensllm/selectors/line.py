"""A straight line through a learning curve on log-log axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lensllm.selectors.forecast import N_DRAWS, Forecast


@dataclass(frozen=True)
class LogLogLine:
    r"""log L = a + b log D by ordinary least squares, with natural logarithms.

    The predictive distribution of log L at a new size is Student's t with n − 2 degrees of freedom,
    centre a + b x and scale s √(1 + 1/n + (x − x̄)² / Σ (x_i − x̄)²), where x = log D and s² is the
    residual sum of squares over n − 2. It accounts for noise about the line, not for curvature.

    Attributes:
        intercept: a.
        slope: b.
        log_n_mean: x̄.
        log_n_spread: Σ (x_i − x̄)².
        residual_squares: Sum of squared residuals of log L.
        n_points: n.

    Example:
        >>> sizes = np.array([200.0, 400.0, 800.0])
        >>> line = LogLogLine.fit(sizes, 5.0 * sizes**-0.25)
        >>> round(line.slope, 6), round(line.predict(1600.0), 6)
        (-0.25, 0.790569)
    """

    intercept: float
    slope: float
    log_n_mean: float
    log_n_spread: float
    residual_squares: float
    n_points: int

    @classmethod
    def fit(cls, n_samples: np.ndarray, losses: np.ndarray) -> LogLogLine:
        """Fit the line.

        Args:
            n_samples: Sizes D > 0, shape (n_points,).
            losses: Test losses > 0, shape (n_points,).

        Raises:
            ValueError: There are fewer than two distinct sizes.
        """
        x, y = np.log(n_samples), np.log(losses)
        if len(set(n_samples.tolist())) < 2:
            n_sizes = len(set(n_samples.tolist()))
            raise ValueError(f"Expected at least two sizes for a line, got {n_sizes}")
        mean = float(x.mean())
        spread = float(((x - mean) ** 2).sum())
        slope = float(((x - mean) * (y - y.mean())).sum()) / spread
        intercept = float(y.mean()) - slope * mean
        squares = float(((y - intercept - slope * x) ** 2).sum())
        return cls(intercept, slope, mean, spread, squares, len(x))

    @property
    def residual_std(self) -> float:
        """Population standard deviation (ddof 0) of the residuals of log L."""
        return math.sqrt(self.residual_squares / self.n_points)

    def log_loss(self, n_samples: float) -> float:
        """Predicted log loss at size D."""
        return self.intercept + self.slope * math.log(n_samples)

    def predict(self, n_samples: float) -> float:
        """Predicted loss at size D, in the unit of the losses."""
        return math.exp(self.log_loss(n_samples))

    def scale(self, n_samples: float) -> float:
        """Scale of the predictive t distribution of log L; `nan` with two points."""
        degrees = self.n_points - 2
        if degrees == 0:
            return math.nan
        distance = (math.log(n_samples) - self.log_n_mean) ** 2 / self.log_n_spread
        variance = self.residual_squares / degrees
        return math.sqrt(variance * (1.0 + 1.0 / self.n_points + distance))

    def interval(self, n_samples: float, level: float = 0.8) -> tuple[float, float]:
        """Ends of the central predictive interval of the loss; `nan` with two points."""
        if self.n_points == 2:
            return math.nan, math.nan
        half = stdtrit(self.n_points - 2, 0.5 + 0.5 * level) * self.scale(n_samples)
        centre = self.log_loss(n_samples)
        return float(np.exp(min(centre - half, 700.0))), float(np.exp(min(centre + half, 700.0)))

    def forecast(self, n_samples: float, rng: np.random.Generator) -> Forecast:
        """Prediction, 80 % interval and draws of log L at size D."""
        low, high = self.interval(n_samples)
        draws = None
        if self.n_points > 2:
            noise = rng.standard_t(self.n_points - 2, size=N_DRAWS)
            draws = self.log_loss(n_samples) + self.scale(n_samples) * noise
        return Forecast(self.predict(n_samples), low, high, draws)
