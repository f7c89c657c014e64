"""Do the data support a power law at all, against an exponential or a constant?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lensllm.prehoc.bootstrap import cluster_draws
from lensllm.prehoc.law import Shape, fit_shape

N_PARAMETERS: dict[Shape, int] = {"power": 3, "exponential": 3, "constant": 1}


@dataclass(frozen=True)
class PowerSupport:
    """What the data say about the shape of R(c).

    Attributes:
        verdict: `power`, `exponential`, `constant`, or `undecided` between the first two.
        share_power: Share of bootstrap draws in which the power fits better than the exponential.
        fall: R at the smallest cost minus R at the largest, nats².
        fall_interval: Its bootstrap interval.
        aicc: Akaike's criterion, corrected for few points, by shape; `inf` where there are too few.
        level: Level of the interval and of the verdict.
    """

    verdict: str
    share_power: float
    fall: float
    fall_interval: tuple[float, float]
    aicc: dict[Shape, float]
    level: float

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        low, high = self.fall_interval
        fall = f"risk falls by {self.fall:.3g} nats² ({self.level:.0%}: {low:.3g} to {high:.3g})"
        if self.verdict == "constant":
            return f"The data do not show that probing lowers the risk: {fall}"
        share = f"a power fits better than an exponential in {self.share_power:.0%} of draws"
        if self.verdict == "undecided":
            return f"The data cannot tell a power from an exponential: {share}; {fall}"
        return f"The data support {_article(self.verdict)} {self.verdict}: {share}; {fall}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def power_support(
    costs: np.ndarray,
    squared_errors: np.ndarray,
    clusters: np.ndarray,
    level: float = 0.9,
    n_draws: int = 400,
    seed: int = 0,
) -> PowerSupport:
    """Compare three shapes of R(c).

    First: does R fall at all? If the bootstrap interval of its fall reaches zero, the verdict is
    `constant`. Then power and exponential, with three parameters each, are fitted to the same
    bootstrap draws; the one that is better in more than `level` of them is the verdict. AICc
    (points taken as independent, which they are not) is reported beside it.

    Args:
        costs: Probe costs, shape (n_costs,).
        squared_errors: Nats², shape (n_runs, n_costs).
        clusters: What is resampled as a whole, shape (n_runs,).
        level: Level of the verdict.
        n_draws: Bootstrap draws.
        seed: Seed of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    drawn = cluster_draws(squared_errors, clusters, n_draws, rng)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(drawn[:, 0] - drawn[:, -1], tails)
    losses = {shape: fit_shape(costs, drawn, shape)[1] for shape in N_PARAMETERS}
    share = float(np.mean(losses["power"] < losses["exponential"]))
    mean = squared_errors.mean(0, keepdims=True)
    aicc = {
        shape: _aicc(float(fit_shape(costs, mean, shape)[1][0]), len(costs), k)
        for shape, k in N_PARAMETERS.items()
    }
    verdict = "undecided"
    if low <= 0:
        verdict = "constant"
    elif share >= level:
        verdict = "power"
    elif share <= 1 - level:
        verdict = "exponential"
    fall = float(mean[0, 0] - mean[0, -1])
    return PowerSupport(verdict, share, fall, (float(low), float(high)), aicc, level)


def _aicc(mean_square: float, n: int, n_parameters: int) -> float:
    """AICc: n log(RSS / n) + 2 k + 2 k (k + 1) / (n − k − 1), the noise's variance counted in k."""
    k = n_parameters + 1
    if n - k - 1 <= 0:
        return math.inf
    return n * math.log(max(mean_square, 1e-300)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
