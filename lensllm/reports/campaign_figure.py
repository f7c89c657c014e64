"""A figure of a campaign: when each candidate was measured, at which D, and why it was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lensllm.core.events import RAN, RESUMED, STOPPED, Event
from lensllm.reports.style import (
    OTHER,
    PREDICTED,
    SEQUENTIAL,
    new_figure,
    set_log_ticks,
    styled,
)
from lensllm.reports.words import stop_words
from lensllm.system.harmless import drawn


@styled
def campaign_figure(events: Sequence[Event], ranking: Sequence[str]) -> Figure | None:
    """One row per candidate and one mark per trial, coloured by when it was run.

    Args:
        events: The events of a `Selection`.
        ranking: Names of the candidates, the best one first.

    Returns:
        The figure; `None` if no candidate was stopped.
    """
    trials, stopped = _history(events)
    if not trials or not stopped:
        return None
    figure = new_figure(8.4, 1.3 + 0.21 * len(ranking))
    axes = figure.add_subplot()
    rows = {model: -place for place, model in enumerate(ranking)}
    norm = Normalize(0, max(len(trials) - 1, 1))
    for model, row in rows.items():
        sizes = sorted(size for name, size in trials if name == model)
        if sizes:
            axes.plot([sizes[0], sizes[-1]], [row, row], color=OTHER, lw=1, zorder=1)
        if model in stopped:
            words = drawn(f" {stop_words(stopped[model])}")
            axes.text(max(sizes, default=1) * 1.25, row, f"×{words}", va="center", fontsize=7)
    axes.scatter(
        [size for _, size in trials],
        [rows[model] for model, _ in trials],
        c=range(len(trials)),
        cmap=SEQUENTIAL,
        norm=norm,
        s=22,
        zorder=2,
    )
    largest = max((size for model, size in trials if model == ranking[0]), default=1)
    axes.text(largest * 1.25, 0, "★ chosen", va="center", fontsize=7, color=PREDICTED)
    axes.set_xscale("log")
    sizes = [size for _, size in trials]
    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 8)
    axes.set_yticks(
        list(rows.values()), [drawn(model.rpartition("/")[2]) for model in rows], fontsize=7
    )
    set_log_ticks(axes, "x", counts=True)
    axes.set_xlabel("D of the trial (samples)")
    bar = figure.colorbar(
        ScalarMappable(norm, SEQUENTIAL), ax=axes, shrink=0.6, aspect=30, pad=0.01
    )
    bar.set_label("order of the trials")
    return figure


def _history(events: Sequence[Event]) -> tuple[list[tuple[str, int]], dict[str, Event]]:
    """(candidate, D > 0) of the trials in order, and the events of finally stopped candidates."""
    trials: list[tuple[str, int]] = []
    stopped: dict[str, Event] = {}
    for event in events:
        if event.kind == RAN and event.n_samples:
            trials.append((event.model, event.n_samples))
        elif event.kind == STOPPED:
            stopped[event.model] = event
        elif event.kind == RESUMED:
            stopped.pop(event.model, None)
    return trials, stopped
