"""Progress of a campaign: a live table on a terminal, one line per trial, and the log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lensllm.core.task import Budget, Task
from lensllm.core.trials import TrialResult
from lensllm.reports.campaign_screen import LiveState, footer, live_table
from lensllm.reports.console import PlainConsole
from lensllm.reports.words import outcome_words
from lensllm.selectors.base import Decision
from lensllm.system.harmless import one_row, redact
from lensllm.system.progress import note

REFRESHES_PER_SECOND = 2


class CampaignProgress:
    """One line per finished trial, above a live table of the candidates on a terminal.

    The lines are in the log file of the run too. Without a terminal, or on one that cannot move
    its cursor, there are only the lines. Use it as a context manager.

    Args:
        console: Console to print lines on.
        task: The selection task.
        budget: The budget, which the campaign charges in place.
        known: Results that were paid for before.
        n_places: Number of trials that run at the same time.
        screen: Console of the table; by default one as wide as the terminal.
    """

    def __init__(
        self,
        console: Console,
        task: Task,
        budget: Budget,
        known: Sequence[TrialResult] = (),
        n_places: int = 1,
        screen: Console | None = None,
    ) -> None:
        self.console = console
        self.screen = screen or PlainConsole(file=console.file)
        self.state = LiveState(task, budget, known, n_places)
        self._live: Live | None = None
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> Self:
        screen = self.screen
        if screen.is_terminal and not screen.is_dumb_terminal and not self.console.quiet:
            self._live = Live(
                get_renderable=lambda: Group(live_table(self.state, screen), footer(self.state)),
                console=screen,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stdout=False,  # a signal is told on them while the display may be locked
                redirect_stderr=False,
            )
            self._live.start()
            self._redirect(screen)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            for handler, stream in self._streams:
                handler.setStream(stream)
            self._live.stop()
            self._live = None

    def decided(self, decision: Decision) -> None:
        """Show what the selector has decided."""
        self.state.decide(decision)

    def update(self, result: TrialResult, budget: Budget) -> None:
        """Print the line of a trial that has ended, and show it in the table."""
        is_stored = self.state.add(result)
        trial, seconds = result.trial, time.perf_counter() - self.state.start
        mark = " (stored)" if is_stored else ""
        line = (
            f"trial {self.state.n_trials}: {trial.model}, D = {trial.n_samples}: "
            f"{outcome_words(result, self.state.task.measure)}{mark}; "
            f"{budget.spent / budget.flops:.0%} of the budget spent"
        )
        note(line)
        line = one_row(redact(f"[{seconds:6.0f} s] {line}"))
        console = self.console if self._live is None else self._live.console
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _redirect(self, screen: Console) -> None:
        """Let log handlers print above the table."""
        for handler in logging.root.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                handler, logging.FileHandler
            ):
                self._streams.append((handler, handler.stream))
                handler.setStream(_Above(screen))


class _Above:
    """A stream whose lines appear above a live display."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen

    def write(self, text: str) -> None:
        """Print what a log handler writes."""
        text = text.rstrip("\n")
        self.screen.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def flush(self) -> None:
        """Lines are shown at once."""


class CampaignBar:
    """A bar of the budget that was spent, for notebooks; the same interface as `CampaignProgress`.

    It shows itself in a notebook or on a terminal, and nothing elsewhere.

    Args:
        console: Console to show it on.
        task: The selection task.
        budget: The budget, which the campaign charges in place.
        known: Results that were paid for before.
        n_places: Number of trials that run at the same time.
    """

    def __init__(
        self,
        console: Console,
        task: Task,
        budget: Budget,
        known: Sequence[TrialResult] = (),
        n_places: int = 1,
    ) -> None:
        self.state = LiveState(task, budget, known, n_places)
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        self._bar = Progress(
            *columns,
            TimeElapsedColumn(),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("choosing a model", total=budget.flops)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def decided(self, decision: Decision) -> None:
        """Take what the selector has decided."""
        self.state.decide(decision)

    def update(self, result: TrialResult, budget: Budget) -> None:
        """Show the budget that was spent, and the trial that has ended last."""
        self.state.add(result)
        trial = result.trial
        outcome = outcome_words(result, self.state.task.measure)
        words = one_row(redact(f"{trial.model}, D = {trial.n_samples}: {outcome}"))
        words += f"; {left}" if (left := self.state.left_words) else ""
        self._bar.update(self._task, completed=budget.spent, description=words)
        note(words)
