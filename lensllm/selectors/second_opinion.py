"""What a campaign that is ranked by a task's measure has to say about its loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lensllm.core.events import CHOSEN_OTHERWISE, Event
from lensllm.core.measures import LOSSES, Measure
from lensllm.core.selection import Selection
from lensllm.core.task import Task
from lensllm.selectors.base import Selector


def second_opinion(
    selector: Selector, task: Task, curves: pd.DataFrame, selection: Selection
) -> tuple[tuple[Event, ...], tuple[str, ...]]:
    """Whether the measure tells candidates apart, and whether the loss would choose another one.

    Args:
        selector: The selector of the campaign.
        task: The selection task.
        curves: Tidy table of the campaign's trials.
        selection: Its answer.

    Returns:
        An event `chosen_otherwise` if the choices differ, and warnings; none where a loss ranks.
    """
    measure = task.measure
    errors = measure.errors(curves)
    errors = errors[(curves["n_samples"] > 0) & np.isfinite(errors)]
    if measure.is_loss or errors.empty:
        return (), ()
    if len(errors) > 1 and errors.nunique() == 1:
        value = measure.words(measure.of_error(float(errors.iloc[0])))
        return (), (
            f"{measure.label} is {value} in all {len(errors)} trials, so that it tells no "
            "candidate from another: look at the measure, or rank by loss",
        )
    has_interval = bool(np.isfinite(selection.best.lower80))
    unchecked = has_interval * (
        f"how often the intervals of {measure.label} hold was not measured: they rest on curves of "
        f"losses, and where {measure.label} rises late it ends beyond them",
    )
    loss = _usable_loss(curves.loc[errors.index])
    if loss is None:
        return (), unchecked
    earlier = task.prior_curves
    if earlier is not None and not _has(earlier.curves, loss):
        earlier = None
    other = selector.rank(replace(task, measure=loss, prior_curves=earlier), curves).best
    if other.status != "ranked" or other.model == selection.best.model:
        return (), unchecked
    event = Event(CHOSEN_OTHERWISE, other.model, value=other.predicted_loss, reason=loss.name)
    return (event,), (
        *unchecked,
        f"by {measure.label} the choice is {selection.best.model}, by {loss.label} it would be "
        f"{other.model}",
    )


def _usable_loss(curves: pd.DataFrame) -> Measure | None:
    """The loss that all trials have: per byte, which can be compared between tokenizers, if so."""
    return next((loss for loss in reversed(LOSSES) if _has(curves, loss)), None)


def _has(curves: pd.DataFrame, loss: Measure) -> bool:
    return loss.column in curves and bool(np.isfinite(curves[loss.column].astype(float)).all())
