"""A campaign at a glance: which model, how sure, and for how much of the full cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.core.selection import Selection
from lensllm.reports.curves_figure import CurvePlot
from lensllm.reports.selection_figure import candidate_plots, coloured, draw_all_curves
from lensllm.reports.style import GRID, MUTED, OTHER, PALETTE, new_figure, styled
from lensllm.reports.words import VERDICTS
from lensllm.system.harmless import drawn

_GAP = 0.07  # between labels, as a share of the axis


@styled
def campaign_figure(selection: Selection, curves: pd.DataFrame) -> Figure | None:
    """The share of the full cost that was spent, by candidate, above the curves of all candidates.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.

    Returns:
        The figure; `None` when nothing at D > 0 was measured.
    """
    measure = selection.measure
    plots = candidate_plots(selection.ranking, curves, measure, selection.n_samples_full)
    if not plots:
        return None
    contenders = () if selection.verdict is None else selection.verdict.contenders
    front = coloured(selection.ranking, contenders, plots)
    figure = new_figure(8.4, 4.9)
    bar, panel = figure.subplots(2, 1, height_ratios=[0.28, 4.0])
    _draw_cost(bar, selection, curves, front)
    draw_all_curves(panel, plots, front, measure.with_unit)
    _label_ends(panel, selection, plots, front)
    figure.suptitle(drawn(_title(selection)), x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


def _title(selection: Selection) -> str:
    best, verdict = selection.best, selection.verdict
    words = "" if verdict is None or verdict.kind == "clear" else f"{VERDICTS[verdict.kind]}: "
    chance = ""
    if math.isfinite(best.p_best):
        chance = f", the best of {len(selection.ranking)} with probability {best.p_best:.2f}"
    return f"{words}{'fine' if words else 'Fine'}-tune {_short(best.model)}{chance}"


def _draw_cost(
    axes: Axes, selection: Selection, curves: pd.DataFrame, front: Sequence[str]
) -> None:
    """One bar for full fine-tuning of all, filled by the cost of each candidate's trials."""
    costs = curves.groupby("model")["flops"].sum()
    order = [*front, *(entry.model for entry in selection.ranking if entry.model not in front)]
    shares = np.array([float(costs.get(model, 0.0)) for model in order])
    shares = 100 * selection.cost_fraction * shares / max(shares.sum(), 1e-300)
    colors = [*PALETTE[: len(front)], *[OTHER] * (len(order) - len(front))]
    axes.barh(0, 100, color=GRID, height=1)
    axes.barh(0, shares, left=np.cumsum(shares) - shares, color=colors, height=1)
    axes.set(xlim=(0, 100), ylim=(-0.5, 0.5))
    axes.set_axis_off()
    words = (
        f"cost: {100 * selection.cost_fraction:.2g} % of fine-tuning all "
        f"{len(selection.ranking)} candidates in full (grey)"
    )
    axes.set_title(words, loc="left", color=MUTED)


def _label_ends(
    axes: Axes, selection: Selection, plots: Mapping[str, CurvePlot], front: Sequence[str]
) -> None:
    """Names beside the ends of the curves in colour, moved apart where they would overlap."""
    entries = {entry.model: entry for entry in selection.ranking}
    ends = {model: plots[model].prediction or (float(plots[model].losses[-1]),) for model in front}
    heights = axes.transScale + axes.transLimits  # from values to shares of the axis
    wanted = sorted((heights.transform((1.0, end[0]))[1], model) for model, end in ends.items())
    last = -math.inf
    for place, model in wanted:
        last = max(place, last + _GAP)
        chance = entries[model].p_best
        words = f"{_short(model)}  {chance:.2f}" if math.isfinite(chance) else _short(model)
        axes.text(
            1.01,
            last,
            drawn(words),
            transform=axes.transAxes,
            va="center",
            color=PALETTE[front.index(model)],
            fontweight="bold" if model == selection.best.model else "normal",
        )
    axes.text(1.01, last + _GAP, "P(best)", transform=axes.transAxes, va="center", color=MUTED)


def _short(model: str) -> str:
    name = model.rpartition("/")[2]
    return name if len(name) <= 24 else f"{name[:23]}…"
