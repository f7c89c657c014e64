"""Depth against breadth while a race runs: how many candidates to go on with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr
from scipy.stats import chi2

from lensllm.prehoc.law import RiskLaw

N_SCALES = 5  # equally likely values of the uncertain scale of the risk
N_NODES = 64
REACH = 8.0  # standard deviations below the mean at which the quadrature begins
LOOK_BACK = 0.5
NOTHING = 1e-3  # of the losses' spread: what cannot end ahead adds no more
WORTH = 0.02  # of the losses' spread: what a narrower plan has to gain
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)


@dataclass(frozen=True)
class Breadth:
    """How many candidates to go on with.

    Attributes:
        n_kept: The best so many.
        depth: Cost that each of them reaches, a share of the full run.
        loss: Expected final loss of the one that is then chosen, up to what all have yet to fall.
    """

    n_kept: int
    depth: float
    loss: float


def corrected_unit(
    law: RiskLaw, costs: np.ndarray, losses: np.ndarray, unit: float, n_tasks: float
) -> tuple[float, float]:
    """Nats² per unit of a carried law's risk, corrected by how the task's own probes moved.

    The law foretells that losses, their mean apart, moved by V(c_j) − V(c_k) + σ²_int between an
    earlier cost c_j and now, in its unit. If they moved more, early losses tell less here than on
    the tasks that the law comes from, and the unit grows: the posterior mean of a scale of variance
    with a prior worth `n_tasks` squared deviations. c_j is the latest cost of at most c_k / 2.

    Args:
        law: The law.
        costs: Up to now, shape (n_levels,).
        losses: Of the candidates that were probed at all of them, shape (n_candidates, n_levels).
        unit: By the law alone: the variance of the candidates' losses.
        n_tasks: Past tasks behind the law.

    Returns:
        The unit, and the degrees of freedom behind it.

    Example:
        >>> losses = np.array([[3.0, 2.0], [2.0, 2.2]])  # moved by −1.0 and 0.2
        >>> corrected_unit(RiskLaw(0.0, 0.1, 1.0), np.array([0.1, 0.2]), losses, 0.01, 2.0)
        (0.4866..., 3.0)
    """
    earlier = np.flatnonzero(costs <= LOOK_BACK * costs[-1] * (1 + 1e-9))
    if not len(earlier) or len(losses) < 2:
        return unit, n_tasks
    j = earlier[-1]
    fall = float(law.reducible(costs[j]) - law.reducible(costs[-1]))
    moves = losses[:, -1] - losses[:, j]
    squares = float(((moves - moves.mean()) ** 2).sum()) / max(fall + law.intrinsic, 1e-12)
    degrees = n_tasks + len(losses) - 1
    return (n_tasks * unit + squares) / degrees, degrees


def best_breadth(
    law: RiskLaw,
    costs: np.ndarray,
    losses: np.ndarray,
    out: float,
    prices: np.ndarray,
    left: float,
    unit: float,
    degrees: float,
) -> Breadth:
    """Go on with the m best candidates as deep as the budget pays: which m?

    A probe from c to d moves a candidate's expected final loss by N(0, V(c) − V(d)); the chosen one
    is then the least of those moved and of those left behind, E min(x_1..x_m, x_{m+1}, ...), and m
    is what makes it least. Its scale is as uncertain as an estimate of a variance with so many
    degrees of freedom. The plan holds to the end, while candidates can still be dropped later, so
    it overstates what dropping one now saves: the broadest plan within `WORTH` of the best is taken
    (chosen on synthetic processes), without those who cannot end ahead, with variance R(c) of each
    final loss. At least two go on, since with one nothing is left to choose.

    Args:
        law: R(c).
        costs: From the present one on, shape (1 + n_levels,).
        losses: Present losses of those in the race, ascending, at least two, shape
            (n_candidates,).
        out: Least loss of those who are not.
        prices: Of each of them and each further level, shape (n_candidates, n_levels), in FLOPs.
        left: What is left of the budget.
        unit: Nats² per unit of the law's risk.
        degrees: Degrees of freedom behind it.
    """
    means = np.asarray(losses, dtype=float)
    scales = unit * _uncertain_scales(degrees)

    def end(m: int, variance: float) -> float:
        behind = min([out, *means[m:]])
        return float(expected_minimum(means[:m], np.sqrt(variance * scales), behind).mean())

    spread, risk = float(np.sqrt(unit)), float(law(costs[0]))
    most = len(means)
    while most > 2 and end(most - 1, risk) <= end(len(means), risk) + NOTHING * spread:
        most -= 1
    plans = []
    for m in range(most, 1, -1):
        depth = float(np.interp(left, np.cumsum([0.0, *prices[:m].sum(0)]), costs))
        fall = float(law.reducible(costs[0]) - law.reducible(depth))
        plans.append(Breadth(m, depth, end(m, fall)))
    least = min(plan.loss for plan in plans)
    return next(plan for plan in plans if plan.loss <= least + WORTH * spread)


@cache
def _uncertain_scales(degrees: float) -> np.ndarray:
    """Equally likely factors of a variance that was estimated with so many degrees of freedom."""
    return degrees / chi2.ppf((np.arange(N_SCALES) + 0.5) / N_SCALES, degrees)


def expected_minimum(means: np.ndarray, spreads: np.ndarray, cap: float = np.inf) -> np.ndarray:
    """E min(cap, x_1..x_m) of independent x_i ~ N(mean_i, spread²): a + ∫_a^cap P(all > x) dx.

    Args:
        means: Shape (m,).
        spreads: Standard deviations, one for all x_i at a time, shape (n,).
        cap: What the minimum cannot be above.

    Returns:
        One value for each spread, shape (n,).

    Example:
        >>> expected_minimum(np.zeros(2), np.ones(1)).round(6)  # −1 / sqrt(pi)
        array([-0.56419])
    """
    spreads = np.maximum(spreads, 1e-12)
    low = means.min() - REACH * spreads
    half = 0.5 * (np.minimum(cap, means.min() + REACH * spreads) - low)
    x = low[:, None] + half[:, None] * (1 + _NODES)  # (n, n_nodes)
    survival = np.prod(ndtr((means[:, None, None] - x) / spreads[:, None]), axis=0)
    inside = low + half * (survival @ _WEIGHTS)
    return np.where(half > 0, inside, cap)
