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
        n_places: Number of trials that run at the same time.
    """

    def __init__(
        self, task: Task, budget: Budget, known: Sequence[TrialResult] = (), n_places: int = 1
    ) -> None:
        self.task = task
        self.budget = budget
        self.n_places = n_places
        self.began = datetime.now(UTC).replace(microsecond=0)  # as precise as a result's time
        before = budget.seconds if math.isfinite(budget.seconds) else 0.0  # counted as spent
        self.start = time.perf_counter() - before
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
    def running(self) -> Mapping[str, str]:
        """Which sizes run, and which wait for a place, by candidate."""
        found: dict[str, list[str]] = {}
        for place, (model, n_samples) in enumerate(list(self.budget.pending)):
            verb = "runs" if place < self.n_places else "waits for"
            found.setdefault(model, []).append(f"{verb} D = {n_samples}")
        return {model: ", ".join(words) for model, words in found.items()}

    @property
    def seconds_left(self) -> float:
        """Most seconds left: those of a budget in time, else at the pace of the trials so far."""
        if math.isfinite(self.budget.seconds_left):
            return max(self.budget.seconds_left, 0.0)
        if not self.new_flops:
            return math.inf
        seconds = time.perf_counter() - self.start
        return seconds * max(self.budget.flops - self.budget.spent, 0.0) / self.new_flops

    @property
    def left_words(self) -> str:
        """The time left in words; empty if it is not known."""
        if not math.isfinite(self.seconds_left):
            return ""
        about = "" if isinstance(self.budget, TimeBudget) else "about "
        return f"at most {about}{duration_words(self.seconds_left)} left"

    @property
    def spent_words(self) -> str:
        """The share of the budget that was spent, and the budget."""
        unit, most = self.task.cost_unit, self.budget.flops
        if isinstance(self.budget, TimeBudget):
            unit = self.budget.unit
        whole = duration_words(most) if unit == "seconds" else f"{most:.3g} {unit}"
        return f"{self.budget.spent / most:.0%} of {whole} spent"


def sparkline(points: Mapping[int, float], sizes: Sequence[int], low: float, high: float) -> str:
    """One mark per size: the value between `low` and `high` in eight steps, a dot where none is.

    The steps are equal in the logarithm, or where a value is not above 0, in the value itself.

    Args:
        points: Values by size.
        sizes: All sizes of a curve, ascending.
        low: Smallest value of all candidates.
        high: Largest one.

    Example:
        >>> sparkline({0: 4.0, 200: 2.0, 400: 1.0}, (0, 200, 400, 800), 1.0, 4.0)
        '█▅▁·'
    """
    scale = math.log if low > 0 else float
    span = scale(high) - scale(low)

    def mark(size: int) -> str:
        if size not in points:
            return "·"
        share = (scale(points[size]) - scale(low)) / span if span else 0.0
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
    table.add_column(state.task.measure.label, justify="right", no_wrap=True)
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
        now = running.get(name, state.words[name])
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
    stored = f" ({state.n_stored} from the store)" if state.n_stored else ""
    so_far = duration_words(time.perf_counter() - state.start)
    parts = [f"{state.n_trials} trials{stored}", state.spent_words, f"{so_far} so far"]
    return Text(", ".join(part for part in (*parts, state.left_words) if part))
