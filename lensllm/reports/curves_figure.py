"""A learning curve with its fit, interval, transition point and phases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lensllm.laws import LawFit
from lensllm.system.harmless import drawn

_PRE_POWER, _POWER = "#f2e6d0", "#d9e8f2"
_COLORS = ("#1f5fa8", "#b5442e", "#3c7d3c", "#7a4fa3")
_ZERO_GAP = 2.0  # D = 0 is drawn this factor below the smallest D > 0, past a broken axis


@dataclass(frozen=True)
class CurvePlot:
    """One curve with its fits, as drawn in a panel.

    Attributes:
        title: Title of the panel.
        n_samples: Measured sizes D, including 0, shape (n_points,).
        losses: Measured losses.
        fits: Fits to draw; the first one gives the interval, the transition and the phases.
        n_samples_full: Size to extrapolate to; the largest measured one by default.
        level: Level of the interval.
        notes: Lines below the title.
    """

    title: str
    n_samples: np.ndarray
    losses: np.ndarray
    fits: Sequence[LawFit] = ()
    n_samples_full: float | None = None
    level: float = 0.8
    notes: Sequence[str] = field(default=())


def draw_curve(axes: Axes, plot: CurvePlot) -> None:
    """Draw one curve on the given log-log axes.

    Points that a fit did not use are hollow. The pre-power phase (D below the transition size) is
    shaded in sand, the power phase in blue. D = 0 is drawn to the left of the axis break.

    Args:
        axes: Axes to draw on.
        plot: The curve with its fits.

    Raises:
        ValueError: There is no size > 0.
    """
    positive = plot.n_samples[plot.n_samples > 0]
    if not positive.size:
        raise ValueError(f"Expected sizes > 0 to draw, got none for {plot.title!r}")
    stop = max(float(positive.max()), plot.n_samples_full or 0.0)
    start = float(positive.min())
    zero = start / _ZERO_GAP
    has_zero = bool((plot.n_samples == 0).any())
    left = zero / 1.25 if has_zero else start / 1.25
    axes.set_xscale("log")
    axes.set_yscale("log")
    grid = np.geomspace(start, stop, 160)
    for color, fit in zip(_COLORS, plot.fits, strict=False):
        axes.plot(grid, fit.predict(grid), color=color, lw=1.6, label=_label(fit), zorder=3)
    if plot.fits:
        _draw_interval(axes, plot, grid)
        _draw_phases(axes, plot.fits[0].transition_size, left, stop * 1.25)
        if has_zero and 0.0 in plot.fits[0].n_samples:
            at_zero = plot.fits[0].predict(0.0)
            axes.plot([zero], [at_zero], color=_COLORS[0], marker="_", ms=14, mew=1.6, zorder=3)
    used = np.isin(plot.n_samples, plot.fits[0].n_samples) if plot.fits else plot.n_samples >= 0
    places = np.where(plot.n_samples > 0, plot.n_samples, zero)
    for rows, face in ((used, "black"), (~used, "white")):
        axes.plot(places[rows], plot.losses[rows], "o", color="black", mfc=face, ms=4.5, zorder=4)
    _decorate(axes, plot, left, stop, zero if has_zero else None)


def _label(fit: LawFit) -> str:
    return f"{fit.law.name} (RMSE log {fit.rmse_log:.2g})"


def _draw_interval(axes: Axes, plot: CurvePlot, grid: np.ndarray) -> None:
    """Shade the law's interval, and mark the interval of a measured loss at the largest size."""
    posterior = plot.fits[0].posterior
    low, high = posterior.interval(grid, plot.level, noise=False)
    axes.fill_between(grid, low, high, color=_COLORS[0], alpha=0.22, lw=0, zorder=2)
    if grid[-1] > plot.fits[0].n_samples.max() * 1.001:
        low, high = posterior.interval(grid[-1:], plot.level)
        middle = posterior.quantiles(grid[-1:], [0.5])[0]
        error = [middle - low, high - middle]
        axes.errorbar(
            grid[-1:], middle, error, fmt="D", ms=4, color=_COLORS[0], capsize=3, zorder=5
        )


def _draw_phases(axes: Axes, transition: float, left: float, right: float) -> None:
    """Shade the phases on either side of the transition size, if the law has one."""
    if not np.isfinite(transition):
        return
    split = float(np.clip(transition, left, right))
    axes.axvspan(left, split, color=_PRE_POWER, alpha=0.6, lw=0, zorder=0)
    axes.axvspan(split, right, color=_POWER, alpha=0.6, lw=0, zorder=0)
    if left < transition < right:
        axes.axvline(transition, color="0.35", lw=1.0, ls="--", zorder=1)


def _decorate(axes: Axes, plot: CurvePlot, left: float, stop: float, zero: float | None) -> None:
    """Limits, ticks, title and legend."""
    axes.set_xlim(left, stop * 1.25)
    values = plot.losses[np.isfinite(plot.losses)]
    low, high = float(values.min()), float(values.max())
    if plot.fits:
        end = plot.fits[0].posterior.interval(stop, plot.level)[0][0]
        low = min(low, max(float(end), 0.25 * low))
    pad = max((high / low) ** 0.06, 1.02)
    axes.set_ylim(low / pad, high * pad)
    first = left if zero is None else zero * _ZERO_GAP
    ticks = [t for t in 10.0 ** np.arange(0, 12) if first <= t < stop * 1.25]
    labels = [f"$10^{{{round(np.log10(t))}}}$" for t in ticks]
    if zero is not None:
        ticks, labels = [zero, *ticks], ["0", *labels]
        axes.axvline(zero * np.sqrt(_ZERO_GAP), color="0.6", lw=0.8, ls=":", zorder=1)
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    steps = np.array([1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0])
    marks = (10.0 ** np.arange(-3, 3)[:, None] * steps).ravel()
    marks = marks[(marks > low / pad) & (marks < high * pad)]
    marks = marks[:: max(1, len(marks) // 6)]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.set_title("\n".join(map(drawn, [plot.title, *plot.notes])), fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    if plot.fits:
        axes.legend(fontsize=6.5, loc="best", framealpha=0.7)


def draw_curves(
    plots: Sequence[CurvePlot], n_columns: int = 3, unit: str = "nats per target token"
) -> Figure:
    """Draw curves as panels of one figure.

    Args:
        plots: The curves, at least one.
        n_columns: Panels per row.
        unit: Unit of the losses.

    Returns:
        A figure with its own Agg canvas; no global state of matplotlib is changed.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not plots:
        raise ValueError("Expected at least one curve to draw, got none")
    n_columns = min(n_columns, len(plots))
    n_rows = -(-len(plots) // n_columns)
    figure = Figure(figsize=(3.7 * n_columns, 2.9 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, plot in zip(panels.flat, plots, strict=False):
        draw_curve(axes, plot)
    for axes in panels.flat[len(plots) :]:
        axes.set_axis_off()
    figure.supxlabel("fine-tuning samples D", fontsize=9)
    figure.supylabel(f"test loss ({unit})", fontsize=9)
    return figure


def save_curves(
    plots: Sequence[CurvePlot], folder: str | Path, stem: str, per_page: int = 12
) -> list[Path]:
    """Draw curves page by page and save each page as PNG.

    Args:
        plots: The curves.
        folder: Output folder; created if absent.
        stem: Start of the file names; characters other than letters, digits, `-` and `.` become
            `_`.
        per_page: Curves per page.

    Returns:
        The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", stem)
    files = []
    for number, first in enumerate(range(0, len(plots), per_page), start=1):
        suffix = f"_{number}" if len(plots) > per_page else ""
        path = folder / f"{stem}{suffix}.png"
        draw_curves(plots[first : first + per_page]).savefig(path, dpi=130)
        files.append(path)
    return files
