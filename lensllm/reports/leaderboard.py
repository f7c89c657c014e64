"""The leaderboard: one row per candidate, for the terminal, the library and `selection.json`.

A report, which reads files that may be older or have no curves, makes its rows from those
(`lensllm.reports.html_report`); both take the largest trial from `largest_measured`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.measures import Measure
from lensllm.core.selection import RankedModel, Selection

# A smaller model is nearly as good if its loss is, with 90 %, at most this share above the best.
NEARLY = 0.05
# It is worth a word if it has at most this share of the best one's size or latency.
SMALLER = 0.75


COLUMNS = (
    *("rank", "candidate", "model"),
    *("predicted_loss", "lower80", "upper80", "p_best", "p_best_model"),
    *("largest_n_samples", "largest_loss", "full_loss"),
    *("difference", "difference_se", "difference_n_samples"),
    *("n_trials", "flops", "seconds", "loss_per_byte"),
    *("n_params", "memory_gb", "latency_ms", "pareto", "contender", "status"),
)


@dataclass(frozen=True)
class SmallerModel:
    """A smaller or faster candidate that is nearly as good as the chosen one.

    Attributes:
        candidate: Its name.
        difference: How much worse it is predicted to be than the chosen one, in the measure's unit:
            its loss less that of the chosen one, for losses.
        upper: The same for the worse end of its 80 % interval.
        size: `n_params` or `latency_ms`, what was compared.
        share: Its size as a share of the chosen one's.
    """

    candidate: str
    difference: float
    upper: float
    size: str
    share: float


def leaderboard(selection: Selection, curves: pd.DataFrame) -> pd.DataFrame:
    """The ranking with all that is known of each candidate.

    Models are in the order of their best arms, and the arms of a model follow each other.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.

    Returns:
        One row per candidate with the columns
        `rank`: place of its model, from 1;
        `candidate`, `model`: its name and that of its model, equal unless it is one of several
        arms;
        `predicted_loss`, `lower80`, `upper80`: see `RankedModel`;
        `p_best`, `p_best_model`: probability of being best, and its sum over the model's arms;
        `largest_n_samples`, `largest_loss`: largest size D with a measured value, and that value;
        `full_loss`: the measure where it was measured at D_full itself;
        `difference`, `difference_se`, `difference_n_samples`: how far its measured loss is above
        the chosen one's on the same test examples, the standard error of that, and where;
        `n_trials`, `flops`, `seconds`: its trials, and what they cost together;
        `loss_per_byte`: test loss per byte of the largest one, where it was measured;
        `n_params`, `memory_gb`, `latency_ms`: see `Candidate`;
        `pareto`: whether no other candidate has a better predicted value and is no larger (slower,
        if the latency of all was measured), or is smaller with no worse value; missing if sizes or
        values are not known;
        `contender`: whether its model is a contender of the verdict;
        `status`: see `RankedModel`.
        Numbers that are not known are `nan`.
    """
    rows = [_row(selection, entry, curves) for entry in selection.ranking]
    table = pd.DataFrame.from_records(rows)
    table["p_best_model"] = table.groupby("model")["p_best"].transform(
        lambda shares: shares.sum(min_count=1)
    )
    first = {model: place for place, model in enumerate(dict.fromkeys(table["model"]), start=1)}
    table["rank"] = table["model"].map(first)
    table["pareto"] = _pareto(table, selection.measure)
    return table.sort_values("rank", kind="stable")[list(COLUMNS)].reset_index(drop=True)


def _row(selection: Selection, entry: RankedModel, curves: pd.DataFrame) -> dict[str, object]:
    """One candidate without what depends on the others."""
    known = selection.candidate(entry.model)
    column = selection.measure.column  # which trials that all failed do not have
    own = curves[curves["model"] == entry.model].sort_values("n_samples")
    own = own.reindex(columns=list(dict.fromkeys([*own, column, "test_loss_per_byte"])))
    totals = own.reindex(columns=["flops", "seconds"]).sum(min_count=1)
    largest = largest_measured(own, column)
    verdict, evidence = selection.verdict, selection.evidence
    differences = () if evidence is None else evidence.differences
    behind = next((item for item in differences if item.model == entry.model), None)
    return {
        "candidate": entry.model,
        "model": known.base_model,
        "predicted_loss": entry.predicted_loss,
        "lower80": entry.lower80,
        "upper80": entry.upper80,
        "p_best": entry.p_best,
        "largest_n_samples": largest["n_samples"],
        "largest_loss": largest[column],
        "full_loss": measured_in_full(selection, entry.model, curves),
        "difference": math.nan if behind is None else behind.difference,
        "difference_se": math.nan if behind is None else behind.standard_error,
        "difference_n_samples": math.nan if behind is None else behind.n_samples,
        "n_trials": len(own),
        "flops": float(totals["flops"]),
        "seconds": float(totals["seconds"]),
        "loss_per_byte": largest["test_loss_per_byte"],
        "n_params": float(known.n_params) or math.nan,
        "memory_gb": known.memory_gb,
        "latency_ms": known.latency_ms,
        "contender": verdict is not None and known.base_model in verdict.contenders,
        "status": entry.status,
    }


def largest_measured(points: pd.DataFrame, column: str) -> dict[str, float]:
    """What one candidate's largest trial with a finite value measured.

    Args:
        points: Its trials by ascending size.
        column: The column of the values.

    Returns:
        `n_samples`, the value and `test_loss_per_byte`; all `nan` where no value is finite.
    """
    names = list(dict.fromkeys(["n_samples", column, "test_loss_per_byte"]))
    measured = points.loc[np.isfinite(points[column].astype(float)), names]
    if measured.empty:
        return dict.fromkeys(names, math.nan)
    return measured.iloc[-1].astype(float).to_dict()


def measured_in_full(selection: Selection, model: str, curves: pd.DataFrame) -> float:
    """The mean of a candidate's values that were measured at D_full; `nan` if there is none."""
    if selection.measure.column not in curves:
        return math.nan
    is_full = (curves["model"] == model) & (curves["n_samples"] == selection.n_samples_full)
    return float(curves.loc[is_full, selection.measure.column].astype(float).mean())


def size_column(table: pd.DataFrame) -> str:
    """What is compared beside the loss: `latency_ms` if it was measured, else `n_params`."""
    ranked = table[np.isfinite(table["predicted_loss"])]
    measured = len(ranked) and np.isfinite(ranked["latency_ms"]).all()
    return "latency_ms" if measured else "n_params"


def _pareto(table: pd.DataFrame, measure: Measure) -> pd.Series:
    """Whether each candidate is not dominated, or `NA`."""
    errors = table["predicted_loss"].map(measure.error)
    points = pd.DataFrame([errors, table[size_column(table)]]).T.to_numpy(dtype=float)
    known = np.isfinite(points).all(axis=1)
    found = pd.Series(pd.NA, index=table.index, dtype="boolean")
    no_worse = (points[None] <= points[:, None]).all(axis=2)
    better = (points[None] < points[:, None]).any(axis=2)
    found[known] = ~(no_worse & better).any(axis=1)[known]
    return found


def nearly_as_good(selection: Selection, curves: pd.DataFrame) -> SmallerModel | None:
    """The smallest candidate of another model that is nearly as good as the chosen one.

    It has at most `SMALLER` of the size, and the worse end of its 80 % interval is at most `NEARLY`
    of the loss (or of the measure's error) above what is predicted for the chosen one.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.

    Returns:
        `None` if there is none, or sizes or intervals are not known.
    """
    table, measure = leaderboard(selection, curves), selection.measure
    column, best = size_column(table), table.iloc[0]
    share = table[column] / best[column]
    predicted = table["predicted_loss"].map(measure.error)
    worse = table["upper80" if measure.direction == "lower" else "lower80"].map(measure.error)
    close = worse <= (1 + NEARLY) * predicted.iloc[0]
    found = table[(share <= SMALLER) & close & (table["model"] != best["model"])]
    if found.empty:
        return None
    row = found.loc[found[column].idxmin()]
    return SmallerModel(
        str(row["candidate"]),
        float(predicted[row.name] - predicted.iloc[0]),
        float(worse[row.name] - predicted.iloc[0]),
        column,
        float(share[row.name]),
    )
