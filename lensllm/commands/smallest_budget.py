"""The smallest budget with which a selector can begin, found by asking it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensllm.commands.named import named_selectors
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.core.trials import results_table
from lensllm.selectors.base import Selector

PRECISION = 1.001


def smallest_budget(selector: Selector, task: Task) -> float:
    """FLOPs from which on a selector does not refuse a budget; 0 where it takes any.

    Args:
        selector: Who decides; it is asked for its first trials, and none is run.
        task: The question, with its costs.

    Returns:
        A budget that works and is at most `PRECISION` times the smallest one.

    Raises:
        BudgetTooSmallError: It refuses even what all trials cost: there are too few sizes.

    Example:
        >>> from lensllm import Candidate, SubTuning, Task
        >>> costs = {("a", 100): 2.0, ("a", 800): 16.0}
        >>> task = Task("t", (Candidate("a", 1, "x"),), 800, {"a": (100,)}, costs)
        >>> round(smallest_budget(SubTuning(), task), 1)
        2.0
    """
    nothing = results_table([])
    low, high = 1e-9 * min(task.costs.values()), 2 * sum(task.costs.values())
    selector.ask(task, nothing, Budget(high))

    def works(flops: float) -> bool:
        try:
            selector.ask(task, nothing, Budget(flops))
        except BudgetTooSmallError:
            return False
        return True

    if works(low):
        return 0.0
    while high > PRECISION * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def smallest_budgets(
    task: Task, folder: str | Path, context: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """The smallest budget of every selector that needs nothing but losses.

    Args:
        task: The question.
        folder: Folder of the selectors' YAML files; those that look at the candidates' weights
            first, at a cost that is not known before, are left out.
        context: What the files may refer to.

    Returns:
        FLOPs by name; infinite where no budget would do, since there are too few sizes.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        if "${candidates." in path.read_text(encoding="utf-8"):
            continue
        (selector,) = named_selectors([path.stem], folder, context)
        try:
            found[path.stem] = smallest_budget(selector, task)
        except BudgetTooSmallError:
            found[path.stem] = math.inf
    return found
