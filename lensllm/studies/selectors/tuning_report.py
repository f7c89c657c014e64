"""Tables and a figure of settings judged on the data sets that they were not chosen on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.core.prior_curves import PriorCurves
from lensllm.evaluation.statistics import reliability
from lensllm.execution.replay import ReplayRunner
from lensllm.predictors.draws import Predictor
from lensllm.reports.style import PALETTE, new_figure, save, styled
from lensllm.reports.tables import Table
from lensllm.studies.selectors.calibration import LEVELS, Calibration
from lensllm.studies.selectors.tuned import Judged, best_in_top, bootstrap_over_models
from lensllm.system.harmless import drawn

_COLORS = PALETTE
_EDGES = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 1)
_LABELS = {"held_out": "chosen on the others", "in_sample": "in-sample"}


@dataclass(frozen=True, eq=False)
class Example:
    """Curves to show with their predictions.

    Attributes:
        runner: Replays the data set.
        predictor: The predictor.
        prior_curves: Curves of earlier tasks.
        ratio: D_full / D_max.
        n_models: Number of candidates, spread evenly over the true ranking.
    """

    runner: ReplayRunner
    predictor: Predictor
    prior_curves: PriorCurves | None = None
    ratio: int = 64
    n_models: int = 5


def tuning_tables(judged: Judged, n_resamples: int = 1000) -> list[Table]:
    """Means by data set, by budget and by target, and the reliability of probabilities.

    Args:
        judged: What was judged.
        n_resamples: Resamples of the candidates, for the spread of the means.
    """
    full = int(judged.scores["n_samples_full"].max())
    caption = f"At D_full = {full}; correlations, accuracies and shares in percent."
    at_full = judged.scores["n_samples_full"] == full
    kinds = judged.scores.loc[at_full, "settings"].unique()
    rows = [row for kind in kinds for row in _by_dataset(judged, kind, full, n_resamples)]
    held_out = judged.scores[judged.scores["settings"] == "held_out"]
    return [
        Table("tuning_datasets", caption, pd.DataFrame(rows)),
        Table(
            "tuning_budgets",
            f"Pearson correlation (relative accuracy) at D_full = {full}, settings chosen on the "
            "other data sets.",
            _cells(held_out[held_out["n_samples_full"] == full], "dataset", "budget_ratio"),
        ),
        Table(
            "tuning_targets",
            "The same by D_full, means over budgets.",
            _cells(held_out, "dataset", "n_samples_full"),
        ),
        Table(
            "tuning_reliability",
            f"P(best) against how often it was, at D_full = {full}, settings chosen on the other "
            "data sets.",
            _reliability(_at(judged.calibrations["held_out"], full)).mul([100, 100, 1]),
            {"n": 0},
        ),
    ]


@styled
def tuning_figure(judged: Judged, baseline: pd.DataFrame, example: Example) -> Figure:
    """An example, correlation by budget, coverage by level, and reliability of P(best).

    Args:
        judged: What was judged; the settings chosen on the other data sets are drawn.
        baseline: Scores of another selector at the same D_full, for comparison.
        example: What to show the curves of.
    """
    full = int(judged.scores["n_samples_full"].max())
    figure = new_figure(9.0, 6.8)
    (first, left), (middle, right) = figure.subplots(2, 2)
    _draw_example(first, example)
    scores = judged.scores[judged.scores["n_samples_full"] == full]
    _draw_correlations(left, scores[scores["settings"] == "held_out"], baseline)
    found = _at(judged.calibrations["held_out"], full)
    _draw_coverage(middle, found)
    _draw_reliability(right, _reliability(found))
    return figure


def write_tuning_report(
    judged: Judged, baseline: pd.DataFrame, example: Example, folder: Path
) -> list[Table]:
    """Write the tables and `pooled.png` into a folder.

    Returns:
        The tables.
    """
    tables = tuning_tables(judged)
    for table in tables:
        table.write(folder)
    save(tuning_figure(judged, baseline, example), folder / "pooled.png")
    return tables


def _by_dataset(judged: Judged, kind: str, full: int, n_resamples: int) -> list[dict[str, object]]:
    """One row per data set and one for all, for one kind of settings."""
    scores = _of(judged.scores, kind, full)
    predictions = _of(judged.predictions, kind, full)
    calibration = _at(judged.calibrations[kind], full)
    inside = pd.DataFrame({level: calibration.coverage(level) for level in (0.8, 0.95)})
    groups = calibration.candidates["dataset"]
    top = best_in_top(predictions)
    rows: list[dict[str, object]] = []
    for name in [*sorted(scores["dataset"].unique()), "all"]:
        own = scores if name == "all" else scores[scores["dataset"] == name]
        part = inside if name == "all" else inside[groups == name]
        hits = top if name == "all" else top.xs(name, level="dataset")
        row: dict[str, object] = {
            "settings": _LABELS[kind],
            "data set": name,
            "Pearson": 100 * own["pearson"].mean(),
            "RelAcc": 100 * own["relative_accuracy"].mean(),
            "log RMSE": 100 * own["log_rmse"].mean(),
            "regret": 100 * own["regret"].mean(),
            "best in top 3": f"{int(hits.sum())} of {len(hits)}",
            "80 % cover": 100 * part[0.8].mean(),
            "95 % cover": 100 * part[0.95].mean(),
        }
        drawn = predictions if name == "all" else predictions[predictions["dataset"] == name]
        spread = bootstrap_over_models(drawn, n_resamples)
        for column, metric in (("Pearson", "pearson"), ("RelAcc", "relative_accuracy")):
            low, high = 100 * spread[metric].quantile([0.025, 0.975])
            row[f"{column} 95 %"] = f"{low:.1f} to {high:.1f}"
        rows.append(row)
    return rows


def _cells(scores: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Correlation and accuracy as text, with a row of means."""
    pearson, accuracy = (
        scores.pivot_table(index=index, columns=columns, values=name, margins=True)
        for name in ("pearson", "relative_accuracy")
    )
    table = pd.DataFrame(
        [
            [f"{100 * a:.1f} ({100 * b:.1f})" for a, b in zip(x, y, strict=True)]
            for x, y in zip(pearson.to_numpy(), accuracy.to_numpy(), strict=True)
        ],
        columns=[*map(str, pearson.columns[:-1]), "mean"],
    )
    table.insert(0, index, [*pearson.index[:-1], "mean"])
    return table


def _of(table: pd.DataFrame, kind: str, full: int) -> pd.DataFrame:
    """The rows of one kind of settings at one D_full."""
    return table[(table["settings"] == kind) & (table["n_samples_full"] == full)]


def _at(calibration: Calibration, full: int) -> Calibration:
    """The part at one D_full."""
    rows = calibration.candidates
    return Calibration(rows[rows["n_samples_full"] == full].reset_index(drop=True))


def _reliability(calibration: Calibration) -> pd.DataFrame:
    """How often the candidates with a P(best) between two edges were best."""
    table = reliability(calibration.candidates, _EDGES, hit="is_best").drop(columns="bin")
    return table.rename(columns={"said": "p_best", "true": "is_best"})


def _draw_example(axes: Axes, example: Example) -> None:
    """Points given and withheld, predictions and 80 % intervals of a few candidates."""
    task = replace(example.runner.task(), prior_curves=example.prior_curves)
    curves = example.runner.curves
    largest = task.n_samples_full // example.ratio
    later = [n for n in task.sizes if n > largest] + [task.n_samples_full]
    seen = curves[curves["n_samples"] <= largest]
    draws = example.predictor.draws(task, seen, later, n_draws=2000, seed=0)
    truth = sorted(example.runner.truth().items(), key=lambda item: item[1])
    places = np.linspace(0, len(truth) - 1, min(example.n_models, len(truth))).astype(int)
    for color, (model, _) in zip(_COLORS, [truth[i] for i in places], strict=False):
        rows = curves[(curves["model"] == model) & (curves["n_samples"] > 0)]
        known = rows["n_samples"] <= largest
        low, middle, high = np.exp(
            np.quantile(draws.log_loss[:, draws.models.index(model)], (0.1, 0.5, 0.9), axis=0)
        )
        axes.fill_between(later, low, high, color=color, alpha=0.15, lw=0)
        axes.plot(later, middle, color=color, lw=1.2, label=drawn(model.split("/")[-1]))
        for part, face in ((rows[known], color), (rows[~known], "white")):
            axes.plot(part["n_samples"], part["test_loss"], "o", color=color, mfc=face, ms=3.5)
    axes.set(xscale="log", yscale="log", xlabel="D", ylabel="test loss")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 4, 6) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title(drawn(f"{task.dataset}: given up to D = {largest} (filled)"), fontsize=9)
    axes.legend(fontsize=7, frameon=False)


def _draw_correlations(axes: Axes, scores: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """Pearson correlation by budget."""
    for color, (dataset, rows) in zip(_COLORS, scores.groupby("dataset"), strict=False):
        other = baseline[baseline["dataset"] == dataset]
        axes.plot(
            rows["budget_ratio"], rows["pearson"], "o-", color=color, ms=4, label=drawn(dataset)
        )
        axes.plot(other["budget_ratio"], other["pearson"], ":", color=color)
    ratios = sorted(scores["budget_ratio"].unique())
    axes.set_xscale("log")
    axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    axes.minorticks_off()
    name = baseline["selector"].iloc[0] if len(baseline) else ""
    axes.set(xlabel=r"$D_{full}$ / $D_{max}$", ylabel="Pearson correlation")
    axes.set_title(f"pooled_fit (solid), {name} (dotted)", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _draw_coverage(axes: Axes, found: Calibration) -> None:
    """Share of true losses inside intervals, by their level."""
    axes.plot([0.4, 1], [0.4, 1], color="#bbbbbb", lw=0.8)
    for color, (dataset, rows) in zip(_COLORS, found.candidates.groupby("dataset"), strict=False):
        shares = [found.coverage(level)[rows.index].mean() for level in LEVELS]
        axes.plot(LEVELS, shares, "o-", color=color, ms=4, label=drawn(dataset))
    axes.set(xlabel="level of the interval", ylabel="share of true losses inside")
    axes.set_title("intervals", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _draw_reliability(axes: Axes, table: pd.DataFrame) -> None:
    """How often candidates were best, by their probability."""
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8)
    share, count = table["is_best"].to_numpy(), table["n"].to_numpy()
    error = np.sqrt(np.maximum(share * (1 - share), 0.25 / count) / count)
    axes.errorbar(table["p_best"], share, error, fmt="o", color=_COLORS[0], ms=4, capsize=2)
    for x, y, n in zip(table["p_best"], share + error, count, strict=True):
        axes.annotate(f"{n}", (x, y), textcoords="offset points", xytext=(-3, 4), fontsize=7)
    limit = 1.15 * max(float(table["p_best"].max()), float((share + error).max()))
    axes.set(xlim=(-0.02, limit), ylim=(-0.02, limit))
    axes.set(xlabel="P(best)", ylabel="share that was best")
    axes.set_title("probabilities (number of candidates)", fontsize=9)
