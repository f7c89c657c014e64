"""The live table of a campaign: candidates, sparklines of their curves, chances, budget, time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lensllm.core.events import STOPPED
from lensllm.core.task import Budget, Task
from lensllm.core.trials import TrialResult
from lensllm.reports.words import stop_words
from lensllm.selectors.base import Decision
from lensllm.selectors.time_budget import TimeBudget
from lensllm.system.harmless import one_row, redact
from lensllm.system.progress import duration_words

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "12345678"
MEDIUM, NARROW = 90, 60  # columns of a terminal below which less is shown
MARGIN = 8  # rows of a terminal that are not candidates


class LiveState:
    """What is known of a running campaign; it is read while the campaign writes to it.

    Args:
        task: The selection task.
        budget: The budget, which the campaign charges in place.
        known: Results that were paid for before.
    """

    def __init__(self, task: Task, budget: Budget, known: Sequence[TrialResult] = ()) -> None:
        self.task = task
        self.budget = budget
        self.began = datetime.now(UTC).replace(microsecond=0)  # as precise as a result's time
        self.start = time.perf_counter()
        self.points: dict[str, dict[int, float]] = {name: {} for name in task.names}
        self.words: dict[str, str] = dict.fromkeys(task.names, "")
        self.p_best: dict[str, float] = {}
        self.n_trials = self.n_stored = 0
        self.new_flops = 0.0
        for result in known:
            self._take(result, "already paid")
        self.words |= {name: f"left out: {why}" for name, why in task.failures.items()}

    def add(self, result: TrialResult) -> bool:
        """Take a trial that has ended; whether it was finished before this campaign began."""
        is_stored = self._is_stored(result)
        self.n_trials += 1
        self.n_stored += is_stored
        if not is_stored and math.isfinite(result.flops):
            self.new_flops += result.flops
        self._take(result, "from the store" if is_stored else "")
        return is_stored

    def _is_stored(self, result: TrialResult) -> bool:
        try:
            return datetime.fromisoformat(result.finished_at) < self.began
        except ValueError:  # it was looked up in recorded curves
            return False

    def _take(self, result: TrialResult, origin: str) -> None:
        trial = result.trial
        value = result.value(self.task.measure)
        if math.isfinite(value):
            self.points.setdefault(trial.model, {})[trial.n_samples] = value
        outcome = "" if result.status == "completed" else f"{result.status} "
        reason = f": {result.reason}" if result.reason else ""
        self.words[trial.model] = f"{outcome}{origin}".strip() + reason

    def decide(self, decision: Decision) -> None:
        """Take a decision of the selector."""
        self.p_best = dict(decision.p_best) or self.p_best
        for event in decision.events:
            if event.kind == STOPPED:
                self.words[event.model] = f"stopped: {stop_words(event)}"

    @property
    def running(self) -> Mapping[str, list[int]]:
        """Sizes of the trials that were started and have not ended, by candidate."""
        found: dict[str, list[int]] = {}
        for model, n_samples in list(getattr(self.budget, "pending", ())):
            found.setdefault(model, []).append(n_samples)
        return found

    @property
    def seconds_left(self) -> float:
        """Most seconds left, if compute goes on as fast as in the trials of this campaign."""
        if math.isfinite(self.budget.seconds_left):
            return max(self.budget.seconds_left, 0.0)
        if not self.new_flops:
            return math.inf
        seconds = time.perf_counter() - self.start
        return seconds * max(self.budget.flops - self.budget.spent, 0.0) / self.new_flops


def sparkline(points: Mapping[int, float], sizes: Sequence[int], low: float, high: float) -> str:
    """One mark per size: the loss between `low` and `high` in eight steps, a dot where none is.

    Args:
        points: Losses by size.
        sizes: All sizes of a curve, ascending.
        low: Smallest loss of all candidates.
        high: Largest one.

    Example:
        >>> sparkline({0: 4.0, 200: 2.0, 400: 1.0}, (0, 200, 400, 800), 1.0, 4.0)
        '█▅▁·'
    """
    span = math.log(high / low) if 0 < low < high else 0.0

    def mark(size: int) -> str:
        if size not in points:
            return "·"
        share = math.log(points[size] / low) / span if span and points[size] > 0 else 0.0
        return BARS[min(int(share * len(BARS)), len(BARS) - 1)]

    return "".join(map(mark, sizes))


def live_table(state: LiveState, console: Console) -> Table:
    """The candidates, the likeliest first; as many as the terminal has rows for.

    Below `MEDIUM` columns there are no sizes, below `NARROW` no curves either.
    """
    medium, narrow = console.width < MEDIUM, console.width < NARROW
    table = Table(expand=False, pad_edge=False)
    table.add_column("candidate", overflow="ellipsis", no_wrap=True, max_width=console.width // 3)
    if not narrow:
        table.add_column("curve", no_wrap=True)
    if not medium:
        table.add_column("D", justify="right")
    table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("P(best)", justify="right", no_wrap=True)
    table.add_column("now", overflow="ellipsis", no_wrap=True)
    names = sorted(state.words, key=lambda name: -state.p_best.get(name, -1.0))
    shown = names[: max(3, console.height - MARGIN)]
    running = state.running
    values = [v for points in state.points.values() for v in points.values()]
    low, high = min(values, default=1.0), max(values, default=1.0)
    sizes = sorted({n for points in state.points.values() for n in points} | {*state.task.sizes})
    for name in shown:
        points = state.points.get(name, {})
        last = max(points, default=None)
        curve = sparkline(points, sizes, low, high)
        if console.options.ascii_only:
            curve = curve.translate(str.maketrans(BARS + "·", PLAIN_BARS + "."))
        now = state.words[name]
        if name in running:
            now = f"runs D = {', '.join(map(str, running[name]))}"
        chance = state.p_best.get(name)
        cells = [
            name,
            *([] if narrow else [curve]),
            *([] if medium else ["" if last is None else str(last)]),
            "" if last is None else f"{points[last]:.3f}",
            "" if chance is None else f"{chance:.2f}",
            now,
        ]
        table.add_row(*(Text(one_row(redact(cell))) for cell in cells))
    if len(shown) < len(names):
        table.caption = f"and {len(names) - len(shown)} more candidates"
    return table


def footer(state: LiveState) -> Text:
    """Trials, budget and time in one line."""
    budget, stored = state.budget, f" ({state.n_stored} from the store)" if state.n_stored else ""
    unit = budget.unit if isinstance(budget, TimeBudget) else state.task.cost_unit
    parts = [
        f"{state.n_trials} trials{stored}",
        f"{budget.spent / budget.flops:.0%} of {budget.flops:.3g} {unit} spent",
        f"{duration_words(time.perf_counter() - state.start)} so far",
    ]
    if math.isfinite(state.seconds_left):
        parts.append(f"at most about {duration_words(state.seconds_left)} left")
    return Text(", ".join(parts))
