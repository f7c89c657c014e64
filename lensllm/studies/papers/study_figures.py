"""Figures of a study. Each function draws one figure and returns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.laws import RectifiedLaw, VanillaLaw, fit_laws
from lensllm.reports.style import (
    BEHIND,
    DIVERGING,
    GRID,
    MUTED,
    OTHER,
    PALETTE,
    line_style,
    new_figure,
    set_log_ticks,
    styled,
)
from lensllm.studies.papers.study import Study
from lensllm.system.harmless import drawn

# The selectors that matter, in colour: this project's, then the papers' own; others are grey.
_IN_FRONT = ("adaptive", "pooled_fit", "ats", "lensllm_stand_in", "sub_tuning")
_FORECASTERS = ("adaptive", "pooled_fit", "ats", "lensllm_stand_in", "rectified_fit")


@styled
def correlation_by_budget(study: Study) -> Figure:
    """Pearson correlation by D_full / D_max, a panel for each data set, zero marked."""
    scores = study.evaluation.scores
    scores = scores[scores["protocol"] == "papers"]
    names = _by_place(scores["selector"].unique())
    figure, panels = _panels(study, height=3.4, sharey=True)
    for axes, dataset in zip(panels, study.benchmark.datasets, strict=True):
        part = scores[scores["dataset"] == dataset]
        table = part.pivot_table(
            index="budget_ratio", columns="selector", values="pearson", dropna=False
        )
        for name in names:
            axes.plot(table.index, table[name], **_style(name))
        axes.axhline(0, color=OTHER, linewidth=0.8, zorder=0)
        axes.set(title=drawn(str(dataset)), xscale="log", xlabel="D_full / D_max")
        axes.set_xticks(list(table.index), [f"{x:g}" for x in table.index])
        axes.minorticks_off()
    panels[0].set_ylabel("Pearson correlation")
    _legend(figure)
    return figure


@styled
def curves_with_fits(study: Study, n_models: int = 4) -> Figure:
    """Curves of models of different size with the two laws, fitted up to D_full / 8."""
    figure, panels = _panels(study, height=3.4)
    for axes, dataset in zip(panels, study.benchmark.datasets, strict=True):
        wide = study.wide(dataset)
        truth = wide[wide.columns.max()].sort_values()
        picks = truth.index[np.linspace(0, len(truth) - 1, min(n_models, len(truth))).astype(int)]
        sizes = np.array([n for n in wide.columns if n > 0], dtype=float)
        values = wide.loc[picks, [n for n in wide.columns if n > 0]].to_numpy()
        used = sizes <= sizes.max() / min(study.budget_ratios)
        grid = np.geomspace(sizes[0], sizes[-1], 60)
        for law, style in ((RectifiedLaw(), "-"), (VanillaLaw(), ":")):
            fits = fit_laws(law, sizes[used], values[:, used], on_error="skip")
            for i, line in enumerate(fits.predict(grid)):
                axes.plot(grid, line, style, color=PALETTE[i], linewidth=1)
        for i, model in enumerate(picks):
            axes.plot(sizes[used], values[i, used], "o", color=PALETTE[i], markersize=3)
            label = model.split("/")[-1]
            (points,) = axes.plot(
                sizes[~used], values[i, ~used], "o", color=PALETTE[i], label=label
            )
            points.set(markersize=3, markerfacecolor="white")
        axes.set(title=drawn(str(dataset)), xscale="log", yscale="log", xlabel="n_samples")
        set_log_ticks(axes, "x", counts=True)
        set_log_ticks(axes, "y")
        axes.legend(fontsize=7)
    panels[0].set_ylabel("test loss (nats per token)")
    figure.supxlabel(
        "full: rectified law, dotted: vanilla; hollow points were not fitted", fontsize=7
    )
    return figure


@styled
def fitted_against_true(study: Study) -> Figure:
    """Predicted against true loss at D_full with 80 % intervals, at a data set's middle ratio.

    A row of panels for each data set, a column for each selector that forecasts.
    """
    lines = study.evaluation.predictions
    lines = lines[lines["selector"].isin(_FORECASTERS) & (lines["protocol"] == "papers")]
    lines = lines.dropna(subset=["predicted_loss", "true_loss"])
    names = [name for name in _FORECASTERS if name in set(lines["selector"])]
    datasets = study.benchmark.datasets
    figure = new_figure(2.1 * max(len(names), 2) + 0.6, 2.0 * len(datasets) + 0.6)
    rows = figure.subplots(
        len(datasets), max(len(names), 1), sharex="row", sharey="row", squeeze=False
    )
    for panels, dataset in zip(rows, datasets, strict=True):
        part = lines[lines["dataset"] == dataset]
        ratios = sorted(part["budget_ratio"].unique())
        if not ratios:
            panels[0].set_ylabel(drawn(f"{dataset}: no predictions"))
            continue
        ratio = ratios[len(ratios) // 2]
        part = part[part["budget_ratio"] == ratio]
        for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
            _draw_predictions(axes, part, name, PALETTE[i % len(PALETTE)])
        panels[0].set_ylabel(drawn(f"{dataset}, D <= D_full / {ratio:g}"))
    for axes, name in zip(rows[0], names, strict=False):
        axes.set_title(drawn(str(name)))
    figure.supxlabel("true loss at D_full (nats per token)", fontsize=9)
    figure.supylabel("predicted loss at D_full", fontsize=9)
    return figure


def _draw_predictions(axes: Axes, part: pd.DataFrame, name: str, color: str) -> None:
    """One cell's predictions of one selector, and the line on which they would be right."""
    rows = part[part["selector"] == name]
    below = (rows["predicted_loss"] - rows["lower80"]).clip(lower=0)
    above = (rows["upper80"] - rows["predicted_loss"]).clip(lower=0)
    axes.errorbar(
        rows["true_loss"].to_numpy(),
        rows["predicted_loss"].to_numpy(),
        np.stack([below, above]),
        fmt="o",
        markersize=2.5,
        elinewidth=0.6,
        color=color,
    )
    ends = [part["true_loss"].min(), part["true_loss"].max()]
    axes.plot(ends, ends, color=OTHER, zorder=0)
    low = min(0.9 * ends[0], 0.9 * part["predicted_loss"].quantile(0.02))
    axes.set_ylim(low, 1.1 * max(ends[1], part["upper80"].quantile(0.98)))


@styled
def accuracy_against_cost(study: Study) -> Figure:
    """Mean regret against mean cost, one panel per protocol, with the Pareto front.

    Free selectors stand at the left edge.
    """
    scores = study.evaluation.scores
    protocols = list(dict.fromkeys(scores["protocol"]))
    names = _by_place(scores["selector"].unique())
    figure = new_figure(5.2 * len(protocols), 3.8)
    panels = figure.subplots(1, len(protocols), squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        key = "budget_ratio" if protocol == "papers" else "budget_fraction"
        means = scores[scores["protocol"] == protocol].groupby(["selector", key])
        table = means[["cost_fraction", "regret"]].mean().reset_index().dropna()
        edge = table.loc[table["cost_fraction"] > 0, "cost_fraction"].min() / 3
        floor = max(table["regret"].max() * 1e-3, 1e-4)
        for name in names:
            rows = table[table["selector"] == name]
            cost = rows["cost_fraction"].clip(lower=edge)
            regret = rows["regret"].clip(lower=floor)
            axes.plot(100 * cost, regret, **_style(name))
            if cost.nunique() == 1:  # a point, which is no line of any colour
                at = (100 * cost.iloc[0], regret.iloc[0])
                axes.plot(*at, "o", markersize=3, color=MUTED)
                place = {"xytext": (5, -2.5), "textcoords": "offset points", "fontsize": 7}
                axes.annotate(drawn(str(name)), at, **place)
        front = _pareto(table["cost_fraction"].clip(lower=edge), table["regret"].clip(lower=floor))
        axes.step(100 * front[0], front[1], where="post", color=GRID, linewidth=5, zorder=0)
        axes.set(xscale="log", yscale="log", title=f"protocol: {protocol}")
        axes.set(
            xlabel="cost, % of full fine-tuning (left edge: free)", ylabel="mean regret (nats)"
        )
        set_log_ticks(axes, "x")
        set_log_ticks(axes, "y")
    _legend(figure)
    return figure


def _pareto(costs: pd.Series, regrets: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Costs, ascending, and the smallest regret for at most that cost."""
    order = np.lexsort([regrets, costs])
    return costs.to_numpy()[order], np.minimum.accumulate(regrets.to_numpy()[order])


@styled
def heat_maps(study: Study) -> Figure:
    """Relative accuracy of every selector in every cell of the papers' protocol."""
    scores = study.evaluation.scores
    scores = scores[scores["protocol"] == "papers"]
    figure, panels = _panels(study, height=4.2, sharey=True)
    for axes, dataset in zip(panels, study.benchmark.datasets, strict=True):
        part = scores[scores["dataset"] == dataset]
        table = part.pivot_table(
            index="selector", columns="budget_ratio", values="relative_accuracy", dropna=False
        )
        table = table.loc[_by_place(list(table.index))]
        image = axes.imshow(table.to_numpy(), vmin=0, vmax=1, cmap=DIVERGING, aspect="auto")
        axes.grid(visible=False)
        _label_cells(axes, table)
        axes.set(title=drawn(str(dataset)), xlabel="D_full / D_max")
    figure.colorbar(image, ax=panels, label="relative accuracy", shrink=0.8)
    return figure


def _label_cells(axes: Axes, table: pd.DataFrame) -> None:
    """Ticks and one number per cell."""
    axes.set_xticks(range(table.shape[1]), [f"{x:g}" for x in table.columns], fontsize=7)
    axes.set_yticks(range(table.shape[0]), list(table.index), fontsize=7)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            dark = value < 0.15 or value > 0.9
            color = "white" if dark else "black"
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=5.5,
                color=color,
            )


def _panels(study: Study, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per data set."""
    n = len(study.benchmark.datasets)
    figure = new_figure(3.6 * n + 1.2, height)
    return figure, list(figure.subplots(1, n, sharey=sharey, squeeze=False)[0])


def _by_place(names: Sequence[str]) -> list[str]:
    """Those in front first, in their order, then the others by name."""
    return [*(n for n in _IN_FRONT if n in names), *sorted(set(names) - set(_IN_FRONT))]


def _style(name: str) -> dict[str, Any]:
    """Colour for those in front; thin grey for the others, which have one label together."""
    if name in _IN_FRONT:
        return {**line_style(_IN_FRONT.index(name)), "label": name, "zorder": 3}
    return {**BEHIND, "label": "others"}


def _legend(figure: Figure) -> None:
    """One legend beside the panels, each label once."""
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), fontsize=7.5, loc="outside right center")
