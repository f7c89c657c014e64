"""The charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from lensllm.reports.curves_figure import CurvePlot, draw_curve
from lensllm.reports.quantities import share, thousands
from lensllm.reports.report_data import Campaign, Step
from lensllm.reports.selection_figure import all_curves_figure, coloured
from lensllm.reports.style import (
    OTHER,
    PALETTE,
    new_figure,
    styled,
)
from lensllm.reports.svg import TIPS, page_svg
from lensllm.system.harmless import drawn

WIDE, NARROW = 8.4, 4.0  # inches, for a desktop and for a phone
_NAME = 24  # characters of a name beside an axis


def in_front(campaign: Campaign, plots: Mapping[str, CurvePlot]) -> list[str]:
    """The candidates that are drawn in colour."""
    return coloured(campaign.ranking, campaign.contenders, plots)


def all_curves(campaign: Campaign, plots: dict[str, CurvePlot], width: float) -> Markup:
    """All curves in one chart, with the values of every point."""
    measure = campaign.measure
    ylabel = measure.with_unit if width == WIDE else measure.label
    figure = all_curves_figure(plots, in_front(campaign, plots), ylabel, width)
    (axes,) = figure.axes
    tips = {}
    for place, (model, plot) in enumerate(plots.items()):
        shown = replace(plot, losses=plot.losses[plot.n_samples > 0])
        shown = replace(shown, n_samples=plot.n_samples[plot.n_samples > 0])
        tips[f"{TIPS}{place}"] = _add_targets(axes, shown, f"{TIPS}{place}", f"{model}: ")
    label = (
        f"{measure.label} of {len(plots)} candidates against the number of fine-tuning samples; "
        "the leaderboard and the table of each candidate have the numbers"
    )
    return page_svg(figure, f"all{width:.0f}", label, tips)


@styled
def one_curve(campaign: Campaign, model: str, plot: CurvePlot, name: str) -> Markup:
    """One candidate's curve with its fit, band and prediction."""
    figure = new_figure(NARROW, 0.62 * NARROW, layout=None)  # many, and a layout doubles the time
    axes = figure.add_axes((0.15, 0.19, 0.82, 0.78))
    draw_curve(axes, replace(plot, title="", notes=()))
    axes.set_xlabel("fine-tuning samples D")
    axes.set_ylabel(campaign.measure.label)
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    has_zero = (plot.n_samples == 0).any()
    zero = axes.get_xticks()[0] if has_zero else 1.0
    shown = replace(plot, n_samples=np.where(plot.n_samples > 0, plot.n_samples, zero))
    tips = {f"{TIPS}0": _add_targets(axes, shown, f"{TIPS}0", "", plot.n_samples)}
    return page_svg(
        figure, name, f"Learning curve of {model}; the table below has the values", tips
    )


def _add_targets(
    axes: Axes, plot: CurvePlot, gid: str, before: str, n_samples: np.ndarray | None = None
) -> list[str]:
    """Invisible marks to point at, one per value; returns their texts."""
    sizes = plot.n_samples if n_samples is None else n_samples
    texts = [
        f"{before}{loss:.4f} at D = {thousands(size)}"
        for size, loss in zip(sizes, plot.losses, strict=True)
    ]
    places, values = [*plot.n_samples], [*plot.losses]
    if plot.prediction is not None and plot.n_samples_full is not None:
        value, low, high = plot.prediction
        interval = (
            f", 80 % interval {low:.4f} to {high:.4f}" if np.isfinite([low, high]).all() else ""
        )
        texts.append(
            f"{before}predicted {value:.4f} at D = {thousands(plot.n_samples_full)}{interval}"
        )
        places.append(plot.n_samples_full)
        values.append(value)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(places, values, "o", ms=14, mew=0, alpha=0, gid=gid, zorder=20)
    axes.set(xlim=limits[0], ylim=limits[1])
    return texts


@styled
def spending(campaign: Campaign, steps: Sequence[Step], front: Sequence[str]) -> Markup | None:
    """One bar per trial, as long as its cost, from left to right in order; a row per candidate."""
    trials = [step for step in steps if step.model and np.isfinite(step.share)]
    if not trials:
        return None
    ran = {step.model for step in trials}
    names = [entry.model for entry in campaign.ranking if entry.model in ran]
    rows = {model: -place for place, model in enumerate(names)}
    figure = new_figure(WIDE, 0.9 + 0.24 * len(rows))
    axes = figure.add_subplot()
    starts = [100 * (step.total - step.share) for step in trials]
    widths = [100 * step.share for step in trials]
    colors = [PALETTE[front.index(step.model)] if step.model in front else OTHER for step in trials]
    places = [rows[step.model] for step in trials]
    axes.barh(places, widths, left=starts, color=colors, ec=colors, lw=0.8, height=0.7)
    axes.set_yticks([*rows.values()], [_short(model) for model in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.set_xlim(0, max(100 * trials[-1].total, 1e-12))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("spent, % of fine-tuning every candidate in full")
    middles = [start + width / 2 for start, width in zip(starts, widths, strict=True)]
    axes.plot(middles, places, "s", ms=10, mew=0, alpha=0, gid=f"{TIPS}0", zorder=20)
    texts = [
        f"trial {number}: {step.model} at D = {thousands(step.n_samples)}: {step.outcome}; "
        f"{share(step.share)} of full tuning"
        for number, step in enumerate(trials, start=1)
    ]
    label = "Cost of each trial in order, by candidate; the table below has the values"
    return page_svg(figure, "spending", label, {f"{TIPS}0": texts})


def _short(model: str) -> str:
    name = model.rpartition("/")[2]
    return drawn(name if len(name) <= _NAME else f"{name[: _NAME - 1]}…")
