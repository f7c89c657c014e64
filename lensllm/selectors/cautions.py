"""Warnings that belong to an answer: what in its trials speaks against believing it as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lensllm.core.evidence import Evidence
from lensllm.core.points import losses_by_size
from lensllm.core.selection import Selection

# A fall per doubling of the data, set by hand. On one task whose loss ended far below its interval,
# it had last fallen by 42 %.
STEEP = 0.25


def tuning_warnings(
    selection: Selection, curves: pd.DataFrame, losses_before: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    """A warning if fine-tuning made every candidate worse than it was before.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.
        losses_before: Losses of a few test pairs before fine-tuning, for candidates that were not
            measured at D = 0; they are compared with a margin of a quarter.

    Returns:
        At most one warning; none where there is no answer to believe.
    """
    if selection.best.status != "ranked":
        return ()
    worse, better, measure = 0, 0, selection.measure
    rough = {model: 1.25 * loss for model, loss in (losses_before or {}).items()}
    for model, rows in curves.groupby("model"):
        losses = measure.errors(rows)
        measured = losses[rows["n_samples"] == 0].dropna()
        before = measured.iloc[0] if len(measured) else rough.get(str(model), math.nan)
        tuned = losses[rows["n_samples"] > 0]
        if len(tuned) and math.isfinite(before):
            is_better = bool(tuned.min() < before)
            better, worse = better + is_better, worse + (not is_better)
    if better or not worse:
        return ()
    return (
        "fine-tuning made every candidate that was measured before it worse than it was: lower "
        "optimizer.lr, and look at the data, before you believe this answer",
    )


def prediction_warnings(selection: Selection, curves: pd.DataFrame) -> tuple[str, ...]:
    """A warning if the predicted losses are not to be relied on, for one of two reasons.

    After trials of a single size nothing tells how fast losses fall on this task. Where they fall
    by more than `STEEP` with each doubling, as on some tasks with short labels, true losses were
    found far below their intervals (docs/concepts/calibration.md).

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.

    Returns:
        At most one warning; none where no interval is predicted.
    """
    best, measure = selection.best, selection.measure
    if not math.isfinite(best.lower80):
        return ()
    seen = {
        model: sorted((n, loss) for n, loss in points.items() if n > 0 and loss > 0)
        for model, points in losses_by_size(curves, measure).items()
    }
    own = seen.get(best.model, [])
    if not own or own[-1][0] >= selection.n_samples_full:
        return ()
    if all(len(points) < 2 for points in seen.values()):
        return (
            "every candidate was measured at one size only, which does not tell how fast losses "
            "fall on this data: the order may be right, the predicted values are a guess",
        )
    if len(own) > 1:
        (first, before), (last, after) = own[-2:]
        fall = 1.0 - (after / before) ** (1.0 / math.log2(last / first))
        if fall > STEEP:
            what = "the loss" if measure.is_loss else f"the error in {measure.name}"
            return (
                f"{what} of {best.model} still falls by {100 * fall:.0f} % with each doubling of "
                f"the data ({before:.3g} at D = {first}, {after:.3g} at D = {last}): on such data "
                "it can end far below the predicted interval, and the order is less sure too",
            )
    return ()


def few_examples(selection: Selection, evidence: Evidence | None) -> tuple[str, ...]:
    """A warning if the answer is not clear and the test set is too small to make it so."""
    is_clear = selection.verdict is not None and selection.verdict.kind == "clear"
    return () if evidence is None or is_clear else evidence.warnings
