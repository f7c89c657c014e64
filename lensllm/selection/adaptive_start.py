"""The first trials of a campaign, before a predictor can say what is worth measuring."""

from __future__ import annotations

from collections.abc import Mapping

from lensllm.selection.base import Budget, BudgetTooSmallError, Task

# Points below which a candidate's own slope is not to be trusted.
MIN_POINTS = 3


def first_trials(task: Task, budget: Budget, n_points: int, share: float) -> list[tuple[str, int]]:
    """The smallest sizes of every candidate, or one larger size.

    Sizes below a bend are a poor guide to a slope: where fewer than `MIN_POINTS` of the smallest
    sizes are affordable, their money goes into the largest single size instead.

    Args:
        task: The question.
        budget: What may be spent in all.
        n_points: Sizes D > 0 a candidate.
        share: Share of the budget that they may take.

    Returns:
        (candidate, D) pairs by ascending size: at least one size of every candidate that has one.

    Raises:
        BudgetTooSmallError: Not even one trial of every candidate is affordable.
    """
    sizes = {
        model: [n for n in task.available[model] if n > 0 and budget.allows(n)]
        for model in task.names
    }
    if not any(sizes.values()):
        raise BudgetTooSmallError(
            f"Expected trials with {budget.permitted} for {task.dataset!r}, got none: give smaller "
            "`sizes` or more data"
        )

    def smallest(n: int) -> list[tuple[str, int]]:
        return [(model, size) for model in task.names for size in sizes[model][:n]]

    def cost(pairs: list[tuple[str, int]]) -> float:
        return sum(task.costs[pair] for pair in pairs)

    if cost(smallest(1)) > budget.flops:
        raise BudgetTooSmallError(
            f"Expected a budget of at least {cost(smallest(1)):.3g} FLOPs "
            f"({cost(smallest(1)) / task.full_cost:.2%} of fine-tuning every candidate in full), "
            f"which pays for the smallest trial of every candidate; got {budget.flops:.3g} "
            f"({budget.flops / task.full_cost:.2%}): raise budget.fraction or drop candidates"
        )
    allowed = share * budget.flops
    fit = max((n for n in range(2, n_points + 1) if cost(smallest(n)) <= allowed), default=1)
    if fit >= min(n_points, MIN_POINTS):
        pairs = smallest(fit)
    else:
        pairs = smallest(1)
        for limit in sorted({size for own in sizes.values() for size in own}):
            single = [
                (model, max([n for n in own if n <= limit], default=own[0]))
                for model, own in sizes.items()
                if own
            ]
            pairs = single if cost(single) <= allowed else pairs
    return sorted(pairs, key=lambda pair: pair[1])


def next_of_silent(
    task: Task,
    budget: Budget,
    seen: Mapping[str, Mapping[int, float]],
    silent: list[str],
) -> list[tuple[str, int]]:
    """The next larger size of candidates of which the predictor cannot speak yet.

    Args:
        task: The question.
        budget: What may be spent.
        seen: Losses so far, by candidate and size.
        silent: These candidates.

    Returns:
        (candidate, D) pairs; none where all of them together are not affordable.
    """
    pairs = []
    for model in silent:
        largest = max(seen.get(model, {}), default=0)
        larger = [n for n in task.available[model] if n > largest and budget.allows(n)]
        pairs += [(model, n) for n in larger[:1]]
    cost = sum(task.costs[pair] for pair in pairs)
    return pairs if cost <= budget.remaining else []
