"""When to stop probing a candidate: the online rule, with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr

from lensllm.prehoc.law import RiskLaw


@dataclass(frozen=True)
class StopAdvice:
    """Whether to stop probing one candidate now.

    Attributes:
        stop: Whether to stop.
        reason: `price`, `hopeless` or `full_depth`, in a race also `breadth`, `alone`, `diverged`
            or `budget`; `worth_it` to go on.
        detail: The same in words, with the numbers.
    """

    stop: bool
    reason: str
    detail: str


@dataclass(frozen=True)
class StoppingRule:
    """Stop where more compute costs more than it lowers the risk, or where the race is lost.

    A candidate at cost c stops when −V'(c) ≤ λ (SCIENCE: 2606.17649), when it is at `max_cost`, or
    when a rival at the same cost leads by so much that the candidate ends with the smaller loss
    with a probability of less than `hopeless`: the difference of two final losses has the variance
    2 R(c) around the difference of the losses at c, noise of the seeds included, since the further
    fall that all candidates share cancels. Where a total budget is given, λ is its shadow price:
    see `lensllm.prehoc.standing.judge`, which does not ask for `hopeless`.

    Attributes:
        law: R(c), in nats² or in another unit, which `decide` is given.
        price: λ, risk per full run, in the law's unit; 0 where only a budget limits.
        hopeless: Least probability of beating the leader with which a candidate goes on.
        max_cost: Largest probe.
        n_tasks: Number of past tasks that the law comes from. Its scale on a new task is as
            uncertain as a variance estimated with `n_tasks` degrees of freedom, so probabilities
            are those of Student's t; `inf` for a law of the task itself.
    """

    law: RiskLaw
    price: float = 0.0
    hopeless: float = 0.1
    max_cost: float = 1.0
    n_tasks: float = 2.0

    def __post_init__(self) -> None:
        if self.price < 0:
            raise ValueError(f"Expected `price` >= 0, got {self.price:g}")
        if not 0 <= self.hopeless < 0.5:
            raise ValueError(f"Expected `hopeless` in [0, 0.5), got {self.hopeless:g}")
        if not self.n_tasks > 0:
            raise ValueError(f"Expected `n_tasks` > 0, got {self.n_tasks:g}")

    def decide(
        self, cost: float, loss: float = math.nan, rivals: Sequence[float] = (), unit: float = 1.0
    ) -> StopAdvice:
        """Judge one candidate.

        Args:
            cost: c, what its probe cost so far, a share of its full run.
            loss: Its loss there, nats.
            rivals: Losses of the other candidates at the same cost.
            unit: Nats² per unit of the law's risk; for a law from other tasks, which is relative to
                the spread of the candidates, the variance of their losses at c.

        Returns:
            The decision.
        """
        others = [x for x in rivals if math.isfinite(x)]
        if cost >= self.max_cost * (1 - 1e-9):
            return StopAdvice(True, "full_depth", f"at the largest probe, c = {cost:.3g}")
        if others:
            chance = self.chance_to_beat(cost, loss, others, unit)
            if chance < self.hopeless:
                lead = loss - min(others)
                return StopAdvice(
                    True, "hopeless", f"{lead:.3g} nats behind: {chance:.1%} to end ahead"
                )
        gain = float(self.law.marginal(cost))
        if gain <= self.price:
            return StopAdvice(
                True, "price", f"a full run's compute would tell {gain:.3g}, at {self.price:.3g}"
            )
        return StopAdvice(False, "worth_it", f"a full run's compute tells {gain:.3g}")

    def chance_to_beat(
        self, cost: float, loss: float, others: Sequence[float], unit: float = 1.0
    ) -> float:
        """Probability of a smaller final loss than that of the best of the others."""
        if not math.isfinite(loss):
            return 0.0
        spread = math.sqrt(2 * max(float(self.law(cost)) * unit, 1e-300))
        return float(stdtr(self.n_tasks, (min(others) - loss) / spread))
