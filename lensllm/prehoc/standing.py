"""Where a race of candidates stands: who goes on, who stops and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensllm.prehoc.breadth import best_breadth, corrected_unit
from lensllm.prehoc.stopping import StopAdvice, StoppingRule


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a race stands: who goes on, and how all compare.

    Attributes:
        going_on: Candidates to probe at the next level, the best one first; empty when it is over.
        level: Position of that level in the costs.
        reached: Deepest level of each candidate, −1 for none, shape (n_candidates,).
        losses: Latest losses, comparable between candidates: losses of those that stopped earlier
            are lowered by the mean fall of the others since then; `inf` where diverged.
        unit: Nats² per unit of the law's risk.
        decisions: Why, for each candidate that stops now.
    """

    going_on: tuple[int, ...]
    level: int
    reached: np.ndarray
    losses: np.ndarray
    unit: float
    decisions: dict[int, StopAdvice]


def judge(
    rule: StoppingRule, costs: np.ndarray, losses: np.ndarray, prices: np.ndarray, left: float
) -> Standing:
    """Decide which candidates of a race go on to the next level.

    First the rule's law is corrected by how the losses moved, see `corrected_unit`. Then all stop
    at the largest probe or where −V'(c) ≤ λ; else the budget that is left goes to the best m
    candidates still in the race, see `best_breadth`. The losses show who went on from earlier
    levels, so a race needs no state of its own.

    Args:
        rule: The rule; its law is in units of the variance of the candidates' losses.
        costs: Cost of each level, shape (n_levels,).
        losses: Shape (n_candidates, n_levels); `nan` where not probed, `inf` where diverged.
        prices: FLOPs of each level of each candidate, the same shape.
        left: FLOPs that are left to spend.

    Returns:
        The standing; only candidates that the budget pays for go on.
    """
    known = ~np.isnan(losses)
    racing = list(range(len(losses)))
    latest, reached = np.zeros(len(losses)), np.full(len(losses), -1)
    k = -1
    while k + 1 < len(costs) and known[racing, k + 1].any():
        k += 1
        racing = [i for i in racing if known[i, k]]
        finite = [i for i in racing if np.isfinite(losses[i, k])]
        if finite:
            latest += np.mean(losses[finite, k] - latest[finite])
        latest[racing], reached[racing] = losses[racing, k], k
    unit = float(np.var(latest[np.isfinite(latest)]))
    decisions: dict[int, StopAdvice] = {}
    if k >= 0:
        unit, decisions = _who_stops(rule, costs, losses, latest, racing, prices, left, unit)
    racing = sorted((i for i in racing if i not in decisions), key=lambda i: latest[i])
    if not racing:
        return Standing((), k, reached, latest, unit, decisions)
    paid = int((np.cumsum(prices[racing, k + 1]) <= left * (1 + 1e-9)).sum())
    nothing_left = StopAdvice(
        True, "budget", f"what is left does not pay for c = {costs[k + 1]:.3g}"
    )
    decisions |= dict.fromkeys(racing[paid:], nothing_left)
    return Standing(tuple(racing[:paid]), k + 1, reached, latest, unit, decisions)


def _who_stops(
    rule: StoppingRule,
    costs: np.ndarray,
    losses: np.ndarray,
    latest: np.ndarray,
    racing: Sequence[int],
    prices: np.ndarray,
    left: float,
    unit: float,
) -> tuple[float, dict[int, StopAdvice]]:
    """The corrected unit, and who of those racing stops at the level they have reached."""
    k = int(np.flatnonzero(~np.isnan(losses[racing[0]]))[-1])
    finite = sorted((i for i in racing if np.isfinite(latest[i])), key=lambda i: latest[i])
    diverged = StopAdvice(True, "diverged", "its loss is not finite")
    stops = {i: diverged for i in racing if i not in finite}
    unit, degrees = corrected_unit(
        rule.law, costs[: k + 1], losses[finite, : k + 1], unit, rule.n_tasks
    )
    together = rule.decide(float(costs[k]))
    if k + 1 == len(costs):
        together = StopAdvice(True, "full_depth", f"at the largest probe, c = {costs[k]:.3g}")
    elif len(finite) == 1:
        together = StopAdvice(True, "alone", "all others have stopped")
    if together.stop:
        return unit, stops | dict.fromkeys(finite, together)
    if len(finite) > 2:
        out = min((x for i, x in enumerate(latest) if i not in finite), default=np.inf)
        plan = best_breadth(
            rule.law, costs[k:], latest[finite], out, prices[finite, k + 1 :], left, unit, degrees
        )
        words = (
            f"{{:.3g}} nats behind at c = {costs[k]:.3g}; the budget is better spent on the "
            f"{plan.n_kept} best, to c = {plan.depth:.3g} each"
        )
        best = latest[finite[0]]
        stops |= {
            i: StopAdvice(True, "breadth", words.format(latest[i] - best))
            for i in finite[plan.n_kept :]
        }
    return unit, stops
