"""How much data the candidates in front need, as their selector sees it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pandas as pd

from lensllm.core.data_needs import DataNeeds, data_needs_of, data_sizes
from lensllm.core.points import losses_by_size
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Task
from lensllm.selectors.base import Selector

logger = logging.getLogger(__name__)

# Candidates for which it is said, the chosen one included.
MAX_NAMED = 3
N_DRAWS = 2000
# Candidates that are predicted together, the first ones of the ranking: the memory that the curves
# of thousands at many sizes take is not worth what these add.
MAX_TOGETHER = 40


def with_data_needs(
    selection: Selection,
    selector: Selector,
    task: Task,
    curves: pd.DataFrame,
    target_loss: float | None = None,
) -> Selection:
    """A selection with what twice the data would bring, and how much data would be enough.

    An answer is not lost for want of this: an error is reported, and the selection returned as it
    is.

    Args:
        selection: The selection.
        selector: The selector that made it; one that does not predict curves adds nothing.
        task: The selection task.
        curves: Tidy table of the campaign's trials.
        target_loss: A test loss that is wanted, in the unit of the task's measure.
    """
    if task.measure.per not in ("token", "byte"):  # of losses alone the intervals were checked
        if target_loss is not None:
            logger.warning(
                "No size for target_loss: candidates are ranked by %s", task.measure.name
            )
        return selection
    held = () if selection.verdict is None else selection.verdict.contenders
    best = selection.best
    named = [
        entry
        for entry in selection.best_arms
        if entry.status == "ranked"
        and (entry is best or selection.candidate(entry.model).base_model in held)
    ]
    if not named:
        return selection
    front = {entry.model for entry in selection.ranking[:MAX_TOGETHER]}
    task = replace(task, candidates=tuple(c for c in task.candidates if c.name in front))
    try:
        found = [_needs(entry, selector, task, curves, target_loss) for entry in named[:MAX_NAMED]]
    except Exception as error:
        logger.warning("What more data would bring is not known (%s)", error)
        return selection
    return replace(selection, data_needs=tuple(item for item in found if item is not None))


def _needs(
    entry: RankedModel,
    selector: Selector,
    task: Task,
    curves: pd.DataFrame,
    target_loss: float | None,
) -> DataNeeds | None:
    """The answer for one candidate; `None` if its curve is not predicted."""
    smallest = min((n for n in task.sizes if n > 0), default=task.n_samples_full)
    sizes = data_sizes(smallest, task.n_samples_full)
    drawn = selector.curve_draws(task, curves, entry.model, sizes, N_DRAWS)
    if drawn is None:
        return None
    return data_needs_of(
        entry.model,
        task.n_samples_full,
        sizes,
        *drawn,
        target_loss=target_loss,
        standard_error=_standard_error(entry, curves, task),
        full_loss=losses_by_size(curves, task.measure)
        .get(entry.model, {})
        .get(task.n_samples_full, math.nan),
    )


def _standard_error(entry: RankedModel, curves: pd.DataFrame, task: Task) -> float:
    """Standard error of the test loss at D_full, as a share of it the same as at the largest D."""
    column, error = task.measure.column, task.measure.error_column
    rows = curves[(curves["model"] == entry.model) & (curves["n_samples"] > 0)]
    if error not in rows or rows[error].dropna().empty:
        return math.nan
    last = rows.dropna(subset=[error, column]).sort_values("n_samples").iloc[-1]
    return float(last[error] / last[column] * entry.predicted_loss)
