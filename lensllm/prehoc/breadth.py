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
NOTHING = 1e-3  # share of the losses' spread: a candidate that cannot win adds no more
WORTH = 0.02  # share of the losses' spread: the least gain for which a narrower plan is taken
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)


@dataclass(frozen=True)
class Breadth:
    """How many candidates to go on with.

    Attributes:
        n_kept: Number of candidates that go on, the best ones.
        depth: Cost that each of them reaches, a share of the full run.
        loss: Expected final loss of the candidate that is then chosen, without the further fall
            that all candidates share.
    """

    n_kept: int
    depth: float
    loss: float


def corrected_unit(
    law: RiskLaw, costs: np.ndarray, losses: np.ndarray, unit: float, n_tasks: float
) -> tuple[float, float]:
    """Nats² per unit of risk of a law from other tasks, corrected by the task's own probes.

    The law predicts, in its unit, the variance V(c_j) − V(c_k) + σ²_int of the changes of the
    losses, less their mean, between an earlier cost c_j and now. If they changed more, early losses
    say less here than on the tasks that the law comes from, and the unit grows: it is the posterior
    mean of the scale of a variance, with a prior worth `n_tasks` squared deviations. c_j is the
    latest cost of at most c_k / 2.

    Args:
        law: The law.
        costs: Up to now, shape (n_levels,).
        losses: Of the candidates that were probed at all of them, shape (n_candidates, n_levels).
        unit: The unit before the correction: the variance of the candidates' losses.
        n_tasks: Number of past tasks that the law comes from.

    Returns:
        The unit, and the degrees of freedom with which it was estimated.

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
    """Choose m, the number of best candidates that go on as deep as the budget pays for.

    A probe from c to d moves a candidate's expected final loss by N(0, V(c) − V(d)). The loss of
    the chosen candidate is then the smallest of those that moved and those left behind, and m
    minimises E min(x_1..x_m, x_{m+1}, ...). The scale of V is as uncertain as a variance that was
    estimated with `degrees` degrees of freedom. A plan drops no candidate later, although that
    is possible, so it overstates what dropping one now saves. The broadest plan within `WORTH` of
    the best is therefore taken (chosen on synthetic processes), without the candidates that cannot
    win, given the variance R(c) of each final loss. At least two go on, since with one nothing is
    left to choose.

    Args:
        law: R(c).
        costs: From the present one on, shape (1 + n_levels,).
        losses: Present losses of those in the race, ascending, at least two, shape
            (n_candidates,).
        out: Smallest loss of the candidates that are no longer in the race.
        prices: FLOPs of each further level for each candidate in the race, shape (n_candidates,
            n_levels).
        left: FLOPs left of the budget.
        unit: Nats² per unit of the law's risk.
        degrees: Degrees of freedom with which it was estimated.
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
    """Equally likely factors of a variance that was estimated with `degrees` degrees of freedom."""
    return degrees / chi2.ppf((np.arange(N_SCALES) + 0.5) / N_SCALES, degrees)


def expected_minimum(means: np.ndarray, spreads: np.ndarray, cap: float = np.inf) -> np.ndarray:
    """E min(cap, x_1..x_m) of independent x_i ~ N(mean_i, spread²): a + ∫_a^cap P(all > x) dx.

    Args:
        means: Shape (m,).
        spreads: Standard deviations, one for all x_i at a time, shape (n,).
        cap: Upper bound of the minimum.

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
