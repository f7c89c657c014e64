"""The points of the curves that a selector has, and those that it can afford."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lensllm.core.measures import Measure
from lensllm.core.task import Budget, BudgetTooSmallError, Task


def losses_by_size(curves: pd.DataFrame, measure: Measure) -> dict[str, dict[int, float]]:
    """Errors measured so far (losses, for a loss), by candidate and size.

    An error is `nan` if every run of a size diverged.

    Several seeds of one size are averaged over the completed ones.

    Args:
        curves: Tidy table of the measured points.
        measure: The task's measure, whose errors they are (`Measure.error`).

    Returns:
        For each candidate with at least one row, {D: error} with ascending D.
    """
    losses = measure.errors(curves)
    finite = losses.where(np.isfinite(losses))
    means = finite.groupby([curves["model"], curves["n_samples"].astype(int)]).mean()
    seen: dict[str, dict[int, float]] = {}
    for (model, n_samples), loss in means.items():
        seen.setdefault(model, {})[int(n_samples)] = float(loss)
    return seen


def finite_points(seen: dict[int, float], *, include_zero: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and losses of the completed trials of one candidate, ascending by size.

    Returns:
        `n_samples` and `test_loss`, both of shape (n_points,).
    """
    kept = [(n, x) for n, x in sorted(seen.items()) if np.isfinite(x) and (n > 0 or include_zero)]
    sizes, losses = zip(*kept, strict=True) if kept else ((), ())
    return np.array(sizes, dtype=float), np.array(losses, dtype=float)


def sizes_up_to(task: Task, model: str, n_samples: int) -> tuple[int, ...]:
    """Sizes 0 < D ≤ `n_samples` that are available for one candidate, ascending."""
    return tuple(n for n in task.available[model] if 0 < n <= n_samples)


def largest_window(task: Task, budget: Budget, n_points: int) -> list[tuple[str, int]]:
    """The `n_points` largest affordable sizes of every candidate.

    Args:
        task: The selection task.
        budget: The total budget; what was already spent counts as available.
        n_points: Points per candidate; all there are if D_max leaves fewer, but at least two.

    Returns:
        (candidate, D) pairs for the largest D_max at which all of them are affordable.

    Raises:
        BudgetTooSmallError: Not even two points of every candidate are affordable.
    """
    cheapest, best = None, None
    for size in task.sizes:
        if size == 0 or not budget.allows(size):
            continue
        windows = {model: sizes_up_to(task, model, size)[-n_points:] for model in task.names}
        if max(map(len, windows.values())) < 2:
            continue
        pairs = [(model, n) for model, sizes in windows.items() for n in sizes]
        cost = sum(task.costs[pair] for pair in pairs)
        cheapest = cost if cheapest is None else min(cheapest, cost)
        if cost <= budget.flops:
            best = pairs
    if best is None:
        what = "at least two sizes of a candidate, which a line needs"
        what = what if cheapest is None else "two trials of every candidate"
        raise too_small(task, budget, what, cheapest)
    return best


def too_small(
    task: Task,
    budget: Budget,
    what: str,
    needed: float | None,
    got: str = "",
    advice: str = "raise the budget or drop candidates",
) -> BudgetTooSmallError:
    """The error for a budget under which a selector cannot begin.

    Args:
        task: The selection task.
        budget: The budget.
        what: What the selector needs.
        needed: FLOPs that would pay for it; `None` if no budget would, since too few sizes are
            permitted or available.
        got: What is available instead, if that is not clear from the budget.
        advice: How to get the FLOPs.
    """
    if needed is None:
        sizes = [str(n) for n in task.sizes if n > 0 and budget.allows(n)]
        return BudgetTooSmallError(
            f"Expected {what}, with {budget.permitted} on {task.dataset!r}, got "
            f"{got or ', '.join(sizes) or 'none'}: give smaller `sizes`, more data, or another "
            "selector"
        )
    return BudgetTooSmallError(
        f"Expected a budget of at least {needed:.3g} {task.cost_unit} "
        f"({needed / task.full_cost:.2%} of fine-tuning every candidate in full), which pays for "
        f"{what}; got {budget.flops:.3g} "
        f"({budget.flops / task.full_cost:.2%}){got}: {advice}",
        needed,
    )


def require_sizes(
    task: Task, budget: Budget, largest: int, n_needed: int, what: str, *, include_zero: bool
) -> None:
    """Raise an error if no candidate gets the sizes that a prediction needs.

    Args:
        task: The selection task.
        budget: The budget.
        largest: The largest size that is affordable together with all smaller ones.
        n_needed: Number of sizes that a prediction needs.
        what: What needs them, for the message.
        include_zero: Whether D = 0 counts.

    Raises:
        BudgetTooSmallError: Every candidate has fewer; the message says what would be enough.
    """
    usable = [n for n in task.sizes if n > 0 or include_zero]
    n_paid = sum(n <= largest for n in usable)
    if n_paid >= n_needed:
        return
    what = f"the {n_needed} sizes of every candidate that {what} needs"
    wanted = [n for n in usable if budget.allows(n)][:n_needed]
    if len(wanted) < n_needed:
        raise too_small(task, budget, what, None)
    pairs = [(m, n) for m in task.names for n in wanted if n in task.available[m]]
    needed = sum(task.costs[pair] for pair in pairs)
    paid = f", which pays for {n_paid} (D <= {largest})"
    raise too_small(task, budget, f"{what}, D up to {wanted[-1]}", needed, paid)
