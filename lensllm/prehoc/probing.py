"""How deep to probe at a price of compute, and depth against breadth for a total budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from lensllm.prehoc.law import RiskLaw

Unit = Literal["share", "flops", "seconds", "money"]


@dataclass(frozen=True)
class Price:
    """λ: what compute costs, in nats² of squared prediction error.

    Attributes:
        amount: Nats² per unit; 1 / v where an error costs v units of money per nats².
        unit: `share` (one full run), `flops`, `seconds` or `money`.
        full_flops: FLOPs of a full run; an analysis fills in those of each task.
        full_seconds: Seconds of a full run, likewise.
        money_per_hour: What an hour of the machine costs.
    """

    amount: float
    unit: Unit = "share"
    full_flops: float = math.nan
    full_seconds: float = math.nan
    money_per_hour: float = math.nan

    def __post_init__(self) -> None:
        if self.unit not in ("share", "flops", "seconds", "money"):
            raise ValueError(
                f"Expected a price per share, flops, seconds or money, got {self.unit!r}"
            )
        if not (self.amount > 0 and math.isfinite(self.amount)):
            raise ValueError(f"Expected a price > 0 nats² per {self.unit}, got {self.amount:g}")

    @property
    def full_run(self) -> float:
        """Cost of a full run in the price's unit.

        Raises:
            ValueError: A quantity that the unit needs is not known.
        """
        needed = {
            "flops": ("full_flops",),
            "seconds": ("full_seconds",),
            "money": ("full_seconds", "money_per_hour"),
        }
        for name in needed.get(self.unit, ()):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"Expected `{name}` > 0 for a price per {self.unit}, got {getattr(self, name)}"
                )
        hours = self.full_seconds / 3600
        full: dict[str, float] = {"flops": self.full_flops, "seconds": self.full_seconds}
        full |= {"money": hours * self.money_per_hour, "share": 1.0}
        return full[self.unit]

    @property
    def per_run(self) -> float:
        """λ in nats² per full run."""
        return self.amount * self.full_run


@dataclass(frozen=True)
class ProbePlan:
    """How deep to probe one candidate.

    Attributes:
        cost: c*, a share of the full run; 0 where probing is not worth its price.
        interval: Bootstrap interval of c*; `nan` for a law without draws.
        risk: R(c*) in nats².
        total: R(c*) + λ c*, nats².
        reason: Why this depth, in words.
    """

    cost: float
    interval: tuple[float, float]
    risk: float
    total: float
    reason: str


def optimal_probe(
    law: RiskLaw,
    price_per_run: float,
    min_cost: float = 0.0,
    max_cost: float = 1.0,
    level: float = 0.9,
) -> ProbePlan:
    """Minimise R(c) + λ c: c* = (α κ / λ)^(1/(1+α)), or no probe at all (SCIENCE: 2606.17649).

    Args:
        law: R(c).
        price_per_run: λ in nats² per full run.
        min_cost: Smallest possible cost of a probe.
        max_cost: Largest possible cost of a probe.
        level: Level of the interval.

    Returns:
        The plan. Where R(0) is known and R(0) ≤ R(c*) + λ c*, the plan is not to probe.

    Raises:
        ValueError: The price or the costs are out of range.

    Example:
        >>> plan = optimal_probe(RiskLaw(0.02, 0.01, 0.5), price_per_run=0.1)
        >>> round(plan.cost, 4)
        0.1357
    """
    if not price_per_run > 0:
        raise ValueError(f"Expected `price_per_run` > 0, got {price_per_run:g}")
    if not 0 <= min_cost < max_cost:
        raise ValueError(f"Expected 0 <= `min_cost` < `max_cost`, got {min_cost} and {max_cost}")
    free = stationary_cost(law.scale, law.decay, price_per_run)
    cost = float(np.clip(free, min_cost, max_cost))
    interval = (math.nan, math.nan)
    if len(law.draws):
        drawn = stationary_cost(law.draws[:, 1], law.draws[:, 2], price_per_run)
        low, high = np.quantile(
            np.clip(drawn, min_cost, max_cost), [(1 - level) / 2, (1 + level) / 2]
        )
        interval = (float(low), float(high))
    risk = float(law(cost)) if cost > 0 else law.static_risk
    total = risk + price_per_run * cost
    if cost == 0 or law.static_risk <= total:
        return ProbePlan(
            0.0, interval, law.static_risk, law.static_risk, "no probe is worth its price"
        )
    reason = "one more unit of compute lowers the risk by just its price"
    if free < min_cost:
        reason = "the smallest probe there is; a smaller one would be enough"
    elif free > max_cost:
        reason = "the largest probe allowed; a larger one would still be worth its price"
    return ProbePlan(cost, interval, risk, total, reason)


def stationary_cost(
    scale: np.ndarray | float, decay: np.ndarray | float, price: float
) -> np.ndarray:
    """Where −V'(c) = λ: (α κ / λ)^(1/(1+α))."""
    decay = np.asarray(decay, dtype=float)
    return (decay * scale / price) ** (1 / (1 + decay))


@dataclass(frozen=True)
class BreadthPlan:
    """How many candidates to probe, and how deep each.

    Attributes:
        n_probed: Candidates that are probed.
        cost: Depth of each, a share of a full run.
        gain: Expected final loss of a blind choice less that of the chosen candidate, nats.
    """

    n_probed: int
    cost: float
    gain: float


def depth_and_breadth(
    law: RiskLaw, budget: float, n_candidates: int, min_cost: float = 0.0, max_cost: float = 1.0
) -> BreadthPlan:
    """Choose k, where k candidates are probed to depth B / k each and the best is taken.

    After a probe of cost c the forecasts of exchangeable candidates spread with variance
    R(0) − R(c), so the best of k is √(R(0) − R(c)) · E max(z_1..z_k) below the mean; the k with the
    largest gain is taken. One more candidate is worth having as long as it adds more to E max than
    the shallower probes take from the spread.

    Args:
        law: R(c) with R(0).
        budget: B, in full runs.
        n_candidates: K, the most that can be probed.
        min_cost: Smallest possible cost of a probe.
        max_cost: Largest possible cost of a probe.

    Raises:
        ValueError: R(0) is unknown, or the budget pays for no probe.
    """
    if not math.isfinite(law.static_risk):
        raise ValueError("Expected a law with `static_risk` R(0), got none: breadth needs it")
    plans = []
    for k in range(1, n_candidates + 1):
        cost = min(budget / k, max_cost)
        if cost >= min_cost and cost > 0:
            spread = max(law.static_risk - float(law(cost)), 0.0)
            plans.append(BreadthPlan(k, cost, math.sqrt(spread) * expected_maximum(k)))
    if not plans:
        raise ValueError(
            f"Expected a budget of at least one probe ({min_cost:g} full runs), got {budget:g}"
        )
    return max(plans, key=lambda plan: plan.gain)


@cache
def expected_maximum(n: int) -> float:
    """E max of n independent standard normals, by quadrature.

    Example:
        >>> round(expected_maximum(2), 6)  # 1 / sqrt(pi)
        0.56419
    """
    return float(quad(lambda z: n * z * norm.pdf(z) * norm.cdf(z) ** (n - 1), -12, 12)[0])
