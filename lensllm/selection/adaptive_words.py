"""The reasons of the adaptive selector in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lensllm.selection.adaptive_options import Option
from lensllm.selection.adaptive_value import Beliefs
from lensllm.selection.base import Task

MAX_NAMES = 6


def words_of_start(task: Task, pairs: Sequence[tuple[str, int]]) -> str:
    """Why every candidate is tried at first."""
    share = _percent(sum(task.costs[pair] for pair in pairs) / task.full_cost)
    names = _names([model for model, _ in pairs])
    return f"start with {_sizes(pairs)} of {names}: {share} of full tuning"


def words_of_silent(pairs: Sequence[tuple[str, int]]) -> str:
    """Why candidates get another point although nothing is predicted yet."""
    names = _names([model for model, _ in pairs])
    return f"next {names} at {_sizes(pairs)}: too few usable trials for a prediction"


def words_of_option(beliefs: Beliefs, option: Option, pairs: Sequence[tuple[str, int]]) -> str:
    """Why these trials are next."""
    names = [model for model, _ in pairs]
    text = f"next {_names(names)} at {_sizes(pairs)}: "
    if len(pairs) < len(option.cells):
        others = [beliefs.models[m] for m, _ in option.cells if beliefs.models[m] not in names]
        text += f"together with {_names(others)}, "
    return (
        text
        + f"expected fall in regret {option.fall:.2g} nats for {_percent(option.share)} of "
        + (
            f"full tuning; choosing {beliefs.models[beliefs.choice]} now has an expected regret of "
            f"{beliefs.regret:.2g} nats"
        )
    )


def words_of_stopped(
    beliefs: Beliefs, out: np.ndarray, largest: Mapping[str, int]
) -> dict[str, str]:
    """Why candidates get no more trials."""
    return {
        beliefs.models[m]: (
            f"P(best) {beliefs.p_best[m]:.3f} after D = {largest[beliefs.models[m]]}"
        )
        for m in np.flatnonzero(out)
    }


def words_of_end(
    beliefs: Beliefs, option: Option | None, price: float, remaining: float, task: Task
) -> str:
    """Why no more is spent."""
    now = (
        f"; choosing {beliefs.models[beliefs.choice]} now has an expected regret of "
        f"{beliefs.regret:.2g} nats"
    )
    if option is None:
        left = _percent(remaining / task.full_cost)
        return f"no more trials: none is affordable with the {left} of full tuning left{now}"
    names = [beliefs.models[m] for m, _ in option.cells]
    size = beliefs.sizes[option.cells[0][1]]
    return (
        f"no more trials: the most worthwhile, {_names(names)} at D = {size}, would lower the "
        f"expected regret by {max(option.fall, 0.0):.2g} nats for {_percent(option.share)} of full "
        f"tuning, which is {max(option.worth, 0.0):.2g} nats a full tuning, below the price of "
        f"{price:g}{now}"
    )


def _percent(share: float) -> str:
    """Two digits: 1.3 %."""
    return f"{100 * share:.2g} %"


def _names(models: Sequence[str]) -> str:
    """Distinct names, the first few of many."""
    distinct = list(dict.fromkeys(models))
    if len(distinct) <= MAX_NAMES:
        return ", ".join(distinct)
    return f"{', '.join(distinct[: MAX_NAMES - 1])} and {len(distinct) - MAX_NAMES + 1} more"


def _sizes(pairs: Sequence[tuple[str, int]]) -> str:
    """D = 200, or D = 200 to 800."""
    sizes = [n for _, n in pairs]
    low, high = min(sizes), max(sizes)
    return f"D = {low}" if low == high else f"D = {low} to {high}"
