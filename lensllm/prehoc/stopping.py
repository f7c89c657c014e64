"""When to stop probing a candidate: the online rule, with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensllm.prehoc.law import RiskLaw


@dataclass(frozen=True)
class Decision:
    """Whether to stop probing one candidate now.

    Attributes:
        stop: Whether to stop.
        reason: `price`, `hopeless`, `full_depth`, `alone`, or `worth_it` to go on.
        detail: The same in words, with the numbers.
    """

    stop: bool
    reason: str
    detail: str


@dataclass(frozen=True)
class StoppingRule:
    """Stop where one more unit of compute costs more than it tells, or where the race is lost.

    A candidate at cost c stops when −V'(c) ≤ λ (SCIENCE: 2606.17649), when it is at `max_cost`, or
    when a rival at the same cost leads by so much that the candidate ends below it with a
    probability of less than `hopeless`: the difference of two final losses has the variance
    2 R(c) around the difference of the losses at c, since what all candidates still have to fall
    cancels.

    Attributes:
        law: R(c), in nats² or in another unit that `decide` is told.
        price: λ, risk per full run, in the law's unit; 0 where only a budget limits.
        hopeless: Least probability of beating the leader with which a candidate goes on.
        max_cost: Largest probe.
    """

    law: RiskLaw
    price: float = 0.0
    hopeless: float = 0.1
    max_cost: float = 1.0

    def __post_init__(self) -> None:
        if self.price < 0:
            raise ValueError(f"Expected `price` >= 0, got {self.price:g}")
        if not 0 <= self.hopeless < 0.5:
            raise ValueError(f"Expected `hopeless` in [0, 0.5), got {self.hopeless:g}")

    def decide(
        self, cost: float, loss: float = math.nan, rivals: Sequence[float] = (), unit: float = 1.0
    ) -> Decision:
        """Judge one candidate.

        Args:
            cost: c, what its probe cost so far, a share of its full run.
            loss: Its loss there, nats.
            rivals: Losses of the other candidates at the same cost.
            unit: What one unit of the law's risk is, in nats²: for a law that was learnt on other
                tasks relative to the spread of the candidates, their variance at c.

        Returns:
            The decision.
        """
        others = [x for x in rivals if math.isfinite(x)]
        if cost >= self.max_cost * (1 - 1e-9):
            return Decision(True, "full_depth", f"at the largest probe, c = {cost:.3g}")
        if others:
            chance = self.chance_to_beat(cost, loss, others, unit)
            if chance < self.hopeless:
                lead = loss - min(others)
                return Decision(
                    True, "hopeless", f"{lead:.3g} nats behind: {chance:.1%} to end ahead"
                )
        gain = float(self.law.marginal(cost))
        if gain <= self.price:
            return Decision(
                True, "price", f"a full run's compute would tell {gain:.3g}, at {self.price:.3g}"
            )
        return Decision(False, "worth_it", f"a full run's compute tells {gain:.3g}")

    def chance_to_beat(
        self, cost: float, loss: float, others: Sequence[float], unit: float = 1.0
    ) -> float:
        """Probability to end below the best of the others."""
        if not math.isfinite(loss):
            return 0.0
        spread = math.sqrt(2 * max(float(self.law(cost)) * unit, 1e-300))
        return 0.5 * math.erfc((loss - min(others)) / (spread * math.sqrt(2)))


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a race stands: who goes on, and how all compare.

    Attributes:
        going_on: Candidates to probe at the next level, the best one first; empty when it is over.
        level: Position of that level in the costs.
        reached: Deepest level of each candidate, −1 for none, shape (n_candidates,).
        losses: Latest losses, comparable between candidates: those who stopped earlier are taken
            down by what the others fell since, on average; `inf` where diverged.
        unit: Variance of these losses: the unit of a relative law, nats².
        decisions: By candidate who stopped, why.
    """

    going_on: tuple[int, ...]
    level: int
    reached: np.ndarray
    losses: np.ndarray
    unit: float
    decisions: dict[int, Decision]


def judge(rule: StoppingRule, costs: np.ndarray, losses: np.ndarray) -> Standing:
    """Let a race of candidates go on level by level as far as losses are known.

    The same losses give the same standing, so a race needs no state of its own.

    Args:
        rule: The rule; its law is in units of the variance of the candidates' losses.
        costs: Cost of each level, shape (n_levels,).
        losses: Shape (n_candidates, n_levels); `nan` where not probed, `inf` where diverged.

    Returns:
        The standing at the first level that a candidate still in the race was not probed at.
    """
    n_candidates = len(losses)
    active = list(range(n_candidates))
    latest = np.zeros(n_candidates)
    reached = np.full(n_candidates, -1)
    decisions: dict[int, Decision] = {}
    for k, cost in enumerate(costs):
        seen = [i for i in active if not np.isnan(losses[i, k])]
        finite = [i for i in seen if np.isfinite(losses[i, k])]
        if finite:
            latest += np.mean([losses[i, k] - latest[i] for i in finite])
        latest[seen], reached[seen] = losses[seen, k], k
        unit = float(np.var(latest[np.isfinite(latest)]))
        if len(seen) < len(active):
            order = sorted((i for i in active if i not in seen), key=lambda i: latest[i])
            return Standing(tuple(order), k, reached, latest, unit, decisions)
        for i in seen:
            rivals = [latest[j] for j in seen if j != i]
            decision = rule.decide(float(cost), latest[i], rivals, unit)
            if decision.stop:
                decisions[i] = decision
        active = [i for i in active if i not in decisions]
        if len(active) == 1:
            decisions[active[0]] = Decision(True, "alone", "all others have stopped")
        if len(active) < 2:
            break
    return Standing((), k, reached, latest, unit, decisions)
