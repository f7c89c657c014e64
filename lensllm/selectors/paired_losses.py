"""How well the test set separates the candidates, and the cost of evaluation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.evidence import CLOSE, ENOUGH, Difference, Evidence
from lensllm.core.example_losses import ExampleLosses, difference, example_errors, log_covariance
from lensllm.core.measures import LOSS, Measure
from lensllm.core.selection import Selection


def examples_by_size(
    curves: pd.DataFrame, measure: Measure = LOSS
) -> dict[str, dict[int, ExampleLosses]]:
    """Losses of test examples, by candidate and size D > 0, for trials that stored them.

    Args:
        curves: Tidy table of a campaign's trials, with the packed losses as `examples`, and scores
            as `measure.scores_column`.
        measure: The measure by which candidates are compared; of one that is no loss, the errors of
            examples are given.
    """
    found: dict[str, dict[int, ExampleLosses]] = {}
    column = "examples" if measure.is_loss else measure.scores_column
    if column not in curves:
        return found
    rows = curves[(curves["n_samples"] > 0) & np.isfinite(measure.errors(curves))]
    for model, n_samples, record in zip(
        rows["model"], rows["n_samples"], rows[column], strict=True
    ):
        losses = _of_examples(record, measure)
        if losses is not None and len(losses) > 1 and 0 < losses.loss() < math.inf:
            found.setdefault(str(model), {})[int(n_samples)] = losses
    return found


def _of_examples(record: Any, measure: Measure) -> ExampleLosses | None:
    """Losses, or errors, of test examples from a cell of the table."""
    if not measure.is_loss:
        return example_errors(record, measure.bound) if isinstance(record, str) else None
    losses = ExampleLosses.from_json(record)
    return losses.per_byte() if losses is not None and measure.per == "byte" else losses


def covariance_over_examples(
    models: Sequence[str], curves: pd.DataFrame, measure: Measure = LOSS
) -> np.ndarray:
    """Covariance over test examples of the candidates' log losses, each at its largest size.

    Args:
        models: Names of the candidates.
        curves: As for `examples_by_size`.
        measure: The measure by which candidates are compared.

    Returns:
        Shape (n_models, n_models); 0 for candidates whose losses were not stored, or were measured
        on other examples than most candidates' (pairs whose target has no token are left out). For
        a measure that is no loss, their variance is that of their standard errors.
    """
    last = {model: by[max(by)] for model, by in examples_by_size(curves, measure).items()}
    covariance = np.zeros((len(models), len(models)))
    usual = Counter(len(last[model]) for model in models if model in last).most_common(1)
    rows = [i for i, m in enumerate(models) if m in last and len(last[m]) == usual[0][0]]
    if rows:
        covariance[np.ix_(rows, rows)] = log_covariance([last[models[i]] for i in rows])
    if not measure.is_loss:
        known = _log_variances(models, curves, measure)
        # A candidate with no example wrong has no spread in its scores, but an error.
        np.fill_diagonal(covariance, np.maximum(covariance.diagonal(), known))
    return covariance


def _log_variances(models: Sequence[str], curves: pd.DataFrame, measure: Measure) -> np.ndarray:
    """Variance over examples of each candidate's log error at its largest size; 0 if unknown."""
    error = measure.errors(curves)
    share = (measure.standard_errors(curves) / error)[(curves["n_samples"] > 0) & error.notna()]
    rows = curves.loc[share.index].assign(share=share).sort_values("n_samples")
    last = rows.groupby("model")["share"].last()
    return np.array([float(last.get(model, 0.0)) for model in models]) ** 2


def evidence_of(selection: Selection, curves: pd.DataFrame) -> Evidence | None:
    """How well the test set separates the chosen candidate from the best arms of other models.

    Args:
        selection: The selection.
        curves: As for `examples_by_size`.

    Returns:
        `None` if losses of examples were not stored, or no other candidate can be compared with
        the chosen one.
    """
    best, *others = selection.best_arms
    measure = selection.measure
    by_size = examples_by_size(curves, measure)
    own = by_size.get(best.model)
    if own is None:
        return None
    pairs = {
        item.model: (found, measure.error(item.predicted_loss))
        for item in others
        if (found := _difference(best.model, item.model, by_size)) is not None
    }
    if not pairs:
        return None
    second, loss = next(iter(pairs.values()))
    chosen = measure.error(best.predicted_loss)
    error = second.standard_error / own[second.n_samples].loss() * chosen
    apart = max(loss - chosen, CLOSE * chosen)
    n_examples = len(own[second.n_samples])
    verdict = selection.verdict
    held = () if verdict is None else verdict.contenders
    named = [name for name in pairs if selection.candidate(name).base_model in held]
    return Evidence(
        n_examples,
        error,
        apart,
        n_examples * (error / (ENOUGH * apart)) ** 2,
        tuple(pairs[model][0] for model in named) or (second,),
        measure.difference_unit,
    )


def _difference(
    best: str, other: str, by_size: Mapping[str, Mapping[int, ExampleLosses]]
) -> Difference | None:
    """A candidate's difference to the choice, if both were measured on the same examples."""
    own, theirs = by_size[best], by_size.get(other, {})
    common = [n for n in own if n in theirs and len(own[n]) == len(theirs[n])]
    if not common:
        return None
    return Difference(other, max(common), *difference(theirs[max(common)], own[max(common)]))


def evaluation_share(curves: pd.DataFrame) -> float:
    """Share of evaluation in the FLOPs of completed trials; `nan` if unknown."""
    if "train_flops" not in curves:
        return math.nan
    rows = curves[curves["status"] == "completed"]
    total, train = float(rows["flops"].sum()), float(rows["train_flops"].sum())
    return 1.0 - train / total if total > 0 and train > 0 else math.nan
