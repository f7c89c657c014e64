"""Figures of a selection: one panel per candidate, and all candidates in one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.core.measures import Measure
from lensllm.core.selection import RankedModel, Selection
from lensllm.laws import LawFit, RectifiedLaw, fit_law
from lensllm.reports.curves_figure import CurvePlot, draw_curves, linear_limits
from lensllm.reports.style import (
    BEHIND,
    PALETTE,
    PAPER,
    compact,
    log_ticks,
    new_figure,
    set_log_ticks,
    styled,
)

MIN_FIT_POINTS = 5
MAX_PANELS = 12
MAX_IN_COLOUR = len(PALETTE)


def candidate_plots(
    ranking: Sequence[RankedModel], curves: pd.DataFrame, measure: Measure, n_samples_full: int
) -> dict[str, CurvePlot]:
    """The curves of the candidates with something measured at D > 0, in the order of the ranking.

    Args:
        ranking: The candidates, the best one first.
        curves: Tidy table of the campaign's trials.
        measure: What is drawn.
        n_samples_full: D_full, where the predictions are.

    Returns:
        By candidate its curve, if the measure is a loss with the rectified law where there are at
        least `MIN_FIT_POINTS` points at D > 0 to fit it to.
    """
    plots: dict[str, CurvePlot] = {}
    if measure.column not in curves:
        return plots
    for place, entry in enumerate(ranking, start=1):
        rows = curves[(curves["model"] == entry.model) & np.isfinite(curves[measure.column])]
        rows = rows.sort_values("n_samples")
        sizes = rows["n_samples"].to_numpy(dtype=float)
        losses = rows[measure.column].to_numpy(dtype=float)
        if not (sizes > 0).any():
            continue
        said = (entry.predicted_loss, entry.lower80, entry.upper80)
        plots[entry.model] = CurvePlot(
            title=f"{place}. {entry.model.rpartition('/')[2]}",
            n_samples=sizes,
            losses=losses,
            fits=_fits(sizes, losses) if measure.is_loss else [],
            n_samples_full=float(n_samples_full),
            prediction=said if math.isfinite(entry.predicted_loss) else None,
            is_loss=measure.is_loss,
        )
    return plots


def _fits(sizes: np.ndarray, losses: np.ndarray) -> list[LawFit]:
    if (sizes > 0).sum() < MIN_FIT_POINTS:
        return []
    return [fit_law(RectifiedLaw(), sizes, losses, use_zero=False)]


@styled
def selection_figure(selection: Selection, curves: pd.DataFrame) -> Figure | None:
    """Learning curves on the same axes, one panel per candidate, the best ones first.

    Losses are on log-log axes; other measures have a linear axis and no law.

    Black points were measured; the star is the selector's prediction at D_full with its 80 %
    interval; the blue curve and band are the rectified law and its posterior, drawn if there are at
    least `MIN_FIT_POINTS` points at D > 0.

    Returns:
        The figure with at most `MAX_PANELS` panels; `None` when nothing at D > 0 was measured.
    """
    measure = selection.measure
    found = candidate_plots(selection.ranking, curves, measure, selection.n_samples_full)
    plots = list(found.values())[:MAX_PANELS]
    if not plots:
        return None
    figure = draw_curves(plots, min(4, len(plots)), measure.with_unit)
    panels = figure.axes[: len(plots)]
    limits = [axes.get_ylim() for axes in panels]
    ends = [axes.get_xlim() for axes in panels]
    for axes, plot in zip(panels, plots, strict=True):
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if measure.is_loss:
            set_log_ticks(axes, "y")
        if not any((other.n_samples == 0).any() for other in plots):
            axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
            set_log_ticks(axes, "x", counts=True)
        if plot.prediction is not None:
            axes.set_title(f"{axes.get_title()}: predicted {plot.prediction[0]:.3f}")
    return figure


@styled
def all_curves_figure(
    plots: Mapping[str, CurvePlot], in_front: Sequence[str], ylabel: str, width: float = 8.4
) -> Figure:
    """The curves of all candidates in one panel, those in front in colour, the others in grey.

    Curves in colour are the fitted laws with their bands, or points that are joined; dotted lines
    lead to the predictions at D_full, which are stars with their intervals as bars and, where no
    law was fitted, as wedges from the last point.

    Args:
        plots: By candidate its curve, at least one.
        in_front: The candidates to draw in colour, at most `MAX_IN_COLOUR`.
        ylabel: The measure and its unit.
        width: Of the figure, in inches.

    Returns:
        The figure; the artists of the `i`-th candidate have the `gid` `curve-i`.
    """
    figure = new_figure(width, max(0.52 * width, 3.6))
    draw_all_curves(figure.add_subplot(), plots, in_front, ylabel)
    return figure


def coloured(
    ranking: Sequence[RankedModel], contenders: Sequence[str], plots: Mapping[str, CurvePlot]
) -> list[str]:
    """The candidates to draw in colour: the best one, the contenders, then down the ranking."""
    names = [ranking[0].model, *contenders, *(entry.model for entry in ranking)]
    return [name for name in dict.fromkeys(names) if name in plots][:MAX_IN_COLOUR]


def draw_all_curves(
    axes: Axes, plots: Mapping[str, CurvePlot], in_front: Sequence[str], ylabel: str
) -> None:
    """Draw what `all_curves_figure` shows on the given axes."""
    is_loss = all(plot.is_loss for plot in plots.values())
    axes.set_xscale("log")
    axes.set_yscale("log" if is_loss else "linear")
    for place, (model, plot) in enumerate(plots.items()):
        if model in in_front:
            color = PALETTE[list(in_front).index(model)]
            _draw_in_front(axes, plot, f"curve-{place}", color, _dodge(place, len(plots)))
        else:
            _draw_behind(axes, plot, f"curve-{place}")
    axes.set_xlabel("fine-tuning samples D")
    axes.set_ylabel(ylabel)
    sizes = np.concatenate([plot.n_samples[plot.n_samples > 0] for plot in plots.values()])
    full = max(plot.n_samples_full or 0.0 for plot in plots.values())
    axes.set_xlim(sizes.min() / 1.3, max(sizes.max(), full) * 1.3)
    if is_loss:
        set_log_ticks(axes, "y")
    else:
        axes.set_ylim(linear_limits(list(plots.values())))
    set_log_ticks(axes, "x", counts=True)
    if full > sizes.max():
        ticks = [tick for tick in log_ticks(*axes.get_xlim()) if not 0.6 < tick / full < 1.7]
        axes.set_xticks([*ticks, full], [*map(compact, ticks), f"{compact(full)}\nD_full"])


def _dodge(place: int, n: int) -> float:
    """A factor near 1 that keeps the intervals of different candidates beside each other."""
    return 1.0 if n > 2 * MAX_IN_COLOUR else 1.0 + 0.02 * (place - (n - 1) / 2)


def _draw_behind(axes: Axes, plot: CurvePlot, gid: str) -> None:
    """A candidate in grey: points joined, then dotted to the prediction."""
    rows = plot.n_samples > 0
    axes.plot(plot.n_samples[rows], plot.losses[rows], marker="o", gid=gid, **BEHIND)
    if plot.prediction is not None:
        path = [plot.n_samples[-1], plot.n_samples_full], [plot.losses[-1], plot.prediction[0]]
        axes.plot(*path, gid=gid, **{**BEHIND, "linestyle": ":"})


def _draw_in_front(axes: Axes, plot: CurvePlot, gid: str, color: str, dodge: float) -> None:
    """A candidate in colour: its fit or its points joined, its band, prediction and interval."""
    rows = plot.n_samples > 0
    sizes, losses = plot.n_samples[rows], plot.losses[rows]
    full = plot.n_samples_full or sizes[-1]
    for fit in plot.fits:
        grid = np.geomspace(sizes[0], max(sizes[-1], full), 80)
        low, median, high = fit.posterior.band(grid, plot.level)
        axes.plot(grid, median, color=color, gid=gid, zorder=3)
        axes.fill_between(grid, low, high, color=color, alpha=0.15, lw=0, gid=gid, zorder=2)
    joined = "" if plot.fits else "-"
    axes.plot(sizes, losses, color=color, ls=joined, marker="o", ms=4.5, gid=gid, zorder=4)
    if plot.prediction is None:
        return
    value, *ends = plot.prediction
    last, end = [sizes[-1], losses[-1]], full * dodge
    axes.plot([last[0], end], [last[1], value], ":", color=color, gid=gid, zorder=3)
    if not plot.fits and np.isfinite(ends).all():
        edges = [last[1], ends[0]], [last[1], ends[1]]
        axes.fill_between([last[0], end], *edges, color=color, alpha=0.1, lw=0, gid=gid, zorder=2)
    axes.plot([end] * 2, ends, color=color, lw=2.2, alpha=0.7, gid=gid, zorder=4)
    axes.plot([end], [value], "*", color=color, mec=PAPER, mew=0.6, ms=11, gid=gid, zorder=6)
