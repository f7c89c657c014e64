"""The one style of all figures: colours, ticks, and how a figure is written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

P = ParamSpec("P")
R = TypeVar("R")

INK, MUTED, GRID, PAPER = "#1b2128", "#5d6873", "#dde2e7", "#ffffff"
OTHER = "#a3abb3"  # what is drawn for comparison, behind what matters
# Blue, brown, green, magenta, ochre: at least 20 units of CIELAB apart for normal sight and for the
# three kinds of colour blindness (Machado et al., 2009), and 3 : 1 against the paper.
PALETTE = ("#004eb7", "#794626", "#18a073", "#a30c7f", "#b68700")
PREDICTED = PALETTE[3]
# Fills of phases: little or nothing learned yet, data as yet insufficient, and the rest.
SAND, SKY, LEAF = "#f6ecd9", "#e3edf7", "#e0f0e4"
SEQUENTIAL, DIVERGING = "viridis", "RdYlBu"  # maps of colours that the colour-blind can read
MARKERS = "os^DvPX<>hp*d8"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.0,
}
_STEPS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0),
)
_COUNT = EngFormatter(sep="")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that draws do so in this style, without a change of matplotlib's settings."""
    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context(function)  # type: ignore[operator]


def new_figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure with its own Agg canvas, so that no global state of matplotlib is changed.

    Args:
        width: In inches.
        height: In inches.
        layout: What makes room for labels; `None` leaves it to the caller.
    """
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, and beside it as an SVG; the same bytes every time.

    Args:
        figure: The figure.
        path: The PNG file; its folder is created.

    Returns:
        The same path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quietly():
        figure.savefig(path, dpi=150, metadata={"Software": None})
    path.with_suffix(".svg").write_text(svg_text(figure), encoding="utf-8")
    return path


def svg_text(figure: Figure) -> str:
    """A figure as SVG, whose text stays text; the same every time."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lensllm"}), _quietly():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings of names that matplotlib's font cannot draw: each is said elsewhere too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def compact(n_samples: float) -> str:
    """A size in few characters.

    Example:
        >>> compact(200), compact(51200), compact(1638400)
        ('200', '51.2k', '1.638M')
    """
    return _COUNT(float(f"{n_samples:.4g}"))


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two ends of a logarithmic axis: at least four, if there is room.

    Args:
        low: The lower end, > 0.
        high: The upper end.
        most: The largest number of them.

    Example:
        >>> log_ticks(150, 15000), log_ticks(3.4, 4.2)
        ([300.0, 1000.0, 3000.0, 10000.0], [3.4, 3.6, 3.8, 4.0, 4.2])
    """
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in _STEPS:
        marks = (decades[:, None] * np.array(steps)).ravel()
        marks = marks[(marks >= low * 0.999) & (marks <= high * 1.001)]
        if len(marks) >= 4:
            return [float(f"{mark:.6g}") for mark in marks[:: -(-len(marks) // most)]]
    even = MaxNLocator(most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(f"{mark:.6g}") for mark in even if low * 0.999 <= mark <= high * 1.001]


def set_log_ticks(axes: Axes, which: Literal["x", "y"], counts: bool = False) -> None:
    """Label a logarithmic axis with round values between its limits, and nothing between them.

    Args:
        axes: Axes whose limits are set.
        which: `x` or `y`.
        counts: Whether the values are sizes, which read 10k instead of 10000.
    """
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    ticks = log_ticks(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, [compact(tick) if counts else f"{tick:g}" for tick in ticks])
    axis.set_tick_params(which="minor", bottom=False, left=False)
    axis.set_ticks([], minor=True)


def line_style(place: int) -> dict[str, Any]:
    """Colour, line and marker of one of many lines; the marker alone tells them apart."""
    return {
        "color": PALETTE[place % len(PALETTE)],
        "linestyle": "-" if place < len(PALETTE) else "--",
        "marker": MARKERS[place % len(MARKERS)],
    }


BEHIND: dict[str, Any] = {"color": OTHER, "linewidth": 0.9, "markersize": 3, "zorder": 1.5}
