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
    """The smallest budget, in FLOPs, that a selector accepts; 0 if it accepts any.

    Args:
        selector: The selector; it is asked for its first trials, and none is run.
        task: The selection task, with its costs.

    Returns:
        A budget that works and is at most `PRECISION` times the smallest one.

    Raises:
        BudgetTooSmallError: It refuses even the cost of all trials, since there are too few sizes.

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
        task: The selection task.
        folder: Folder of the selectors' YAML files; selectors that first inspect the candidates'
            weights, at a cost not known in advance, are left out.
        context: Values that the files may refer to.

    Returns:
        FLOPs by name; infinite if no budget is enough, since there are too few sizes.
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
