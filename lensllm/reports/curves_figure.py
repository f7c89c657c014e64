"""A learning curve with its fit, interval, transition point and phases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.laws import LawFit
from lensllm.reports.style import (
    INK,
    MUTED,
    OTHER,
    PALETTE,
    PAPER,
    PREDICTED,
    SAND,
    SKY,
    compact,
    log_ticks,
    new_figure,
    save,
    set_log_ticks,
    styled,
)
from lensllm.system.harmless import drawn

_ZERO_GAP = 2.0  # D = 0 is drawn this factor below the smallest D > 0, past a broken axis


@dataclass(frozen=True)
class CurvePlot:
    """One curve with its fits, as drawn in a panel.

    Attributes:
        title: Title of the panel.
        n_samples: Measured sizes D, including 0, shape (n_points,).
        losses: Measured losses.
        fits: Fits to draw; of the first one the posterior's median is drawn, with its interval, the
            transition and the phases, and of the others the best fit.
        n_samples_full: Size to extrapolate to; the largest measured one by default.
        level: Level of the interval.
        notes: Lines below the title.
        prediction: A selector's prediction at `n_samples_full` with the ends of its interval, which
            may be `nan`; drawn in place of the law's.
        is_loss: Whether `losses` are losses; other measures have a linear axis.
    """

    title: str
    n_samples: np.ndarray
    losses: np.ndarray
    fits: Sequence[LawFit] = ()
    n_samples_full: float | None = None
    level: float = 0.8
    notes: Sequence[str] = field(default=())
    prediction: tuple[float, float, float] | None = None
    is_loss: bool = True


@styled
def draw_curve(axes: Axes, plot: CurvePlot) -> None:
    """Draw one curve on the given axes, which become logarithmic, as far as it is of losses.

    Points that a fit did not use are hollow. The pre-power phase (D below the transition size) is
    shaded in sand, the power phase in blue. D = 0 is drawn to the left of the axis break. Without a
    fit the points are joined; a star with a bar is the selector's prediction.

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
    zero = start / _ZERO_GAP if (plot.n_samples == 0).any() else None
    left, right = (start if zero is None else zero) / 1.25, stop * 1.25
    axes.set_xscale("log")
    axes.set_yscale("log" if plot.is_loss else "linear")
    grid = np.geomspace(start, stop, 160)
    if plot.fits:
        _draw_interval(axes, plot, grid)
        _draw_phases(axes, plot.fits[0].transition_size, left, right)
        if zero is not None and 0.0 in plot.fits[0].n_samples:
            _, at_zero, _ = plot.fits[0].posterior.band(0.0)
            axes.plot([zero], at_zero, color=PALETTE[0], marker="_", ms=14, mew=1.6, zorder=3)
    if plot.prediction is not None:
        _draw_prediction(axes, plot)
    _draw_points(axes, plot, zero)
    _decorate(axes, plot, (left, right), zero)


def _label(fit: LawFit) -> str:
    return f"{fit.law.name} (RMSE log {fit.rmse_log:.2g})"


def _draw_points(axes: Axes, plot: CurvePlot, zero: float | None) -> None:
    """Measured points: filled where the first fit used them, joined where there is no fit."""
    used = np.isin(plot.n_samples, plot.fits[0].n_samples) if plot.fits else plot.n_samples >= 0
    places = plot.n_samples if zero is None else np.where(plot.n_samples > 0, plot.n_samples, zero)
    if not plot.fits:
        rows = plot.n_samples > 0
        axes.plot(places[rows], plot.losses[rows], color=MUTED, lw=1.2, zorder=3)
    for rows, face in ((used, INK), (~used, PAPER)):
        axes.plot(places[rows], plot.losses[rows], "o", color=INK, mfc=face, zorder=4)


def _draw_interval(axes: Axes, plot: CurvePlot, grid: np.ndarray) -> None:
    """Draw the laws, and the first one's interval, also of a measured loss at the largest size."""
    posterior = plot.fits[0].posterior
    low, median, high = posterior.band(grid, plot.level)
    axes.plot(grid, median, color=PALETTE[0], label=_label(plot.fits[0]), zorder=3)
    for color, fit in zip(PALETTE[1:], plot.fits[1:], strict=False):
        axes.plot(grid, fit.predict(grid), color=color, label=_label(fit), zorder=3)
    axes.fill_between(grid, low, high, color=PALETTE[0], alpha=0.22, lw=0, zorder=2)
    if plot.prediction is None and grid[-1] > plot.fits[0].n_samples.max() * 1.001:
        low, high = posterior.interval(grid[-1:], plot.level)
        middle = posterior.quantiles(grid[-1:], [0.5])[0]
        error = [middle - low, high - middle]
        axes.errorbar(
            grid[-1:], middle, error, fmt="D", ms=4, color=PALETTE[0], capsize=3, zorder=5
        )


def _draw_prediction(axes: Axes, plot: CurvePlot) -> None:
    """The selector's prediction and its interval, joined to the last point by a dotted line."""
    assert plot.prediction is not None
    value, *ends = plot.prediction
    size = plot.n_samples_full or plot.n_samples.max()
    path = [plot.n_samples[-1], size], [plot.losses[-1], value]
    axes.plot(*path, ":", color=PREDICTED, lw=1.4, zorder=2.5)
    axes.plot([size] * 2, ends, color=PREDICTED, lw=2.2, solid_capstyle="butt", zorder=6)
    axes.plot([size], [value], "*", color=PREDICTED, mec=PAPER, mew=0.6, ms=11, zorder=7)


def _draw_phases(axes: Axes, transition: float, left: float, right: float) -> None:
    """Shade the phases on either side of the transition size, if the law has one."""
    if not np.isfinite(transition):
        return
    split = float(np.clip(transition, left, right))
    axes.axvspan(left, split, color=SAND, lw=0, zorder=0)
    axes.axvspan(split, right, color=SKY, lw=0, zorder=0)
    if left < transition < right:
        axes.axvline(transition, color=MUTED, lw=1.0, ls="--", zorder=1)


def _decorate(axes: Axes, plot: CurvePlot, ends: tuple[float, float], zero: float | None) -> None:
    """Limits that hold all points and intervals, ticks, title and legend."""
    left, right = ends
    axes.set_xlim(left, right)
    if plot.is_loss:
        low, high = _reach(plot, right / 1.25)
        pad = max((high / low) ** 0.06, 1.02)
        axes.set_ylim(low / pad, high * pad)
        set_log_ticks(axes, "y")
    else:
        axes.set_ylim(linear_limits([plot]))
    set_log_ticks(axes, "x", counts=True)
    if zero is not None:
        ticks = [tick for tick in log_ticks(left, right) if tick >= zero * _ZERO_GAP]
        axes.set_xticks([zero, *ticks], ["0", *map(compact, ticks)])
        axes.axvline(zero * np.sqrt(_ZERO_GAP), color=OTHER, lw=0.8, ls=":", zorder=1)
    axes.set_title("\n".join(map(drawn, [plot.title, *plot.notes])))
    if plot.fits:
        axes.legend(fontsize=7, loc="best")


def _reach(plot: CurvePlot, stop: float) -> tuple[float, float]:
    """The smallest and the largest loss to show; an interval counts up to a factor of four."""
    shown = np.array([*plot.losses, *(plot.prediction or ())[:1]])
    shown = shown[np.isfinite(shown)]
    ends = np.array(plot.prediction or ())
    if plot.fits:
        ends = np.append(ends, np.ravel(plot.fits[0].posterior.interval(stop, plot.level)))
    ends = np.clip(ends[np.isfinite(ends)], 0.25 * shown.min(), 4 * shown.max())
    return float(np.min([*shown, *ends])), float(np.max([*shown, *ends]))


def linear_limits(plots: Sequence[CurvePlot]) -> tuple[float, float]:
    """Ends of a linear axis with some room around all values and intervals."""
    values = np.concatenate([[*plot.losses, *(plot.prediction or ())] for plot in plots])
    values = values[np.isfinite(values)]
    room = 0.05 * float(np.ptp(values)) or 0.05
    return float(values.min()) - room, float(values.max()) + room


@styled
def draw_curves(
    plots: Sequence[CurvePlot],
    n_columns: int = 3,
    ylabel: str = "test loss (nats per target token)",
) -> Figure:
    """Draw curves as panels of one figure.

    Args:
        plots: The curves, at least one.
        n_columns: Panels per row.
        ylabel: The measure and its unit.

    Returns:
        A figure with its own Agg canvas; no global state of matplotlib is changed.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not plots:
        raise ValueError("Expected at least one curve to draw, got none")
    n_columns = min(n_columns, len(plots))
    n_rows = -(-len(plots) // n_columns)
    figure = new_figure(3.7 * n_columns, 2.9 * n_rows)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, plot in zip(panels.flat, plots, strict=False):
        draw_curve(axes, plot)
    for axes in panels.flat[len(plots) :]:
        axes.set_axis_off()
    figure.supxlabel("fine-tuning samples D", fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure


def save_curves(
    plots: Sequence[CurvePlot], folder: str | Path, stem: str, per_page: int = 12
) -> list[Path]:
    """Draw curves page by page and save each page as PNG and SVG.

    Args:
        plots: The curves.
        folder: Output folder; created if absent.
        stem: Start of the file names; characters other than letters, digits, `-` and `.` become
            `_`.
        per_page: Curves per page.

    Returns:
        The PNG files written.
    """
    folder = Path(folder)
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", stem)
    files = []
    for number, first in enumerate(range(0, len(plots), per_page), start=1):
        suffix = f"_{number}" if len(plots) > per_page else ""
        page = draw_curves(plots[first : first + per_page])
        files.append(save(page, folder / f"{stem}{suffix}.png"))
    return files
