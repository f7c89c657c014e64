"""How far long work is: a bar on a terminal, lines without one, and the same lines in the log file.

Lines go to the logger `lensllm.progress`, which a command writes to the log file in its run's
folder and not to the terminal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lensllm.system.harmless import one_row, redact

LOGGER = "lensllm.progress"
SECONDS_PER_LINE = 60.0

Item = TypeVar("Item")


class Report(Protocol):
    """What long work calls to say how far it is."""

    def __call__(self, label: str, done: int = 0, total: int | None = None) -> None:
        """Say what is worked at, how many parts are done, and of how many if that is known."""


def note(line: str) -> None:
    """Write a line into the log file of the run, and nowhere else."""
    logging.getLogger(LOGGER).info("%s", one_row(redact(line)))


def not_progress(record: logging.LogRecord) -> bool:
    """A filter for handlers that print: progress is on the terminal already."""
    return record.name != LOGGER


def duration_words(seconds: float) -> str:
    """A duration in two units at most.

    Example:
        >>> duration_words(7.4), duration_words(84), duration_words(3 * 3600 + 125)
        ('7 s', '1 min 24 s', '3 h 2 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


class LongWork:
    """Says how far a piece of work is, from its beginning to its end; a context manager.

    On a terminal it is a bar that disappears in the end. Without one there is a line at the start,
    one about every minute, and one at the end. The log file has these lines in both cases.

    Args:
        description: What is done, such as `evaluating`.
        console: Where to show it; by default standard error.
        seconds_per_line: Least time between two lines.
    """

    def __init__(
        self,
        description: str,
        console: Console | None = None,
        seconds_per_line: float = SECONDS_PER_LINE,
    ) -> None:
        self.description = one_row(redact(description))
        self.console = console or Console(stderr=True)
        self.seconds_per_line = seconds_per_line
        self._bar: Progress | None = None
        self._start = self._said = time.monotonic()
        self._done = 0
        self._total: int | None = None

    def __enter__(self) -> Self:
        self._start = self._said = time.monotonic()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(
                *columns,
                BarColumn(),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
                redirect_stdout=False,  # a signal is told on them while the bar may be locked
                redirect_stderr=False,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=None)
        self._say(self.description)
        return self

    def __call__(self, label: str = "", done: int = 0, total: int | None = None) -> None:
        """Say how far it is.

        Args:
            label: What is worked at now.
            done: Parts that are done.
            total: Parts in all, if known.
        """
        self._done, self._total = done, total
        words = f"{self.description}{self._far()}"
        words += f": {one_row(redact(label))}" if label else ""
        if self._bar is not None:
            self._bar.update(self._task, description=words, completed=done, total=total)
        if time.monotonic() - self._said >= self.seconds_per_line:
            self._said = time.monotonic()
            self._say(f"{words}; {self._times()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        outcome = "done" if kind is None else "ended by an error"
        seconds = time.monotonic() - self._start
        self._say(f"{self.description}: {outcome} after {duration_words(seconds)}")

    def _far(self) -> str:
        return f" {self._done} of {self._total}" if self._total else ""

    def _times(self) -> str:
        """Time so far, and what is left if parts take as long as before."""
        seconds = time.monotonic() - self._start
        words = f"{duration_words(seconds)} so far"
        if self._total and self._done:
            left = seconds * (self._total - self._done) / self._done
            words += f", about {duration_words(left)} left"
        return words

    def _say(self, line: str) -> None:
        note(line)
        if self._bar is None:
            self.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def tracked(
    items: Iterable[Item], description: str, total: int | None = None, quiet: bool = False
) -> Iterator[Item]:
    """The same items, saying on standard error how many were taken.

    Args:
        items: What a loop goes over.
        description: What the loop does.
        total: Number of items; by default their length, if they have one.
        quiet: Whether to say nothing.

    Example:
        >>> list(tracked([1, 2], "counting", quiet=True))
        [1, 2]
    """
    if quiet:
        yield from items
        return
    total = len(items) if total is None and isinstance(items, Sized) else total
    with LongWork(description) as work:
        for done, item in enumerate(items):
            work("", done, total)
            yield item
