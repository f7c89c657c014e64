"""The trackers of one run, several at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lensllm.core.measures import Direction
from lensllm.core.trials import TrialResult

logger = logging.getLogger(__name__)

MakeLogger = Callable[..., Any]


class TrackerError(ValueError):
    """An experiment tracker could not be started."""


def as_makers(given: MakeLogger | Mapping[str, MakeLogger] | None) -> dict[str, MakeLogger]:
    """Makers of loggers by name, from the config group `logger`.

    Args:
        given: Makers under names of the user's choice, one without a name, or none.

    Raises:
        ValueError: A maker cannot be called, as one without `_partial_: true`.
    """
    named = {"logger": given} if callable(given) else dict(given or {})
    for name, make in named.items():
        if not callable(make):
            raise ValueError(
                f"Expected a logger with `_target_` and `_partial_: true` as logger.{name}, got "
                f"{make!r}: every run has its own"
            )
    return named


class Trackers:
    """The trackers of one run; an error of one is reported, and costs neither run nor others.

    Args:
        loggers: Loggers of `lensllm.finetune.loggers`.
    """

    def __init__(self, loggers: Sequence[Any] = ()) -> None:
        self.loggers = list(loggers)

    @classmethod
    def begin(
        cls,
        makers: Mapping[str, MakeLogger],
        label: str,
        config: Mapping[str, Any],
        job_type: str = "trial",
        tags: Sequence[str] = (),
    ) -> Trackers:
        """Begin a run in each.

        Args:
            makers: Makers of loggers by name.
            label: Name of the run.
            config: Its settings.
            job_type: Its kind.
            tags: Its tags.

        Raises:
            TrackerError: One could not be started; those before it are closed.
        """
        begun = cls()
        for name, make in makers.items():
            try:
                begun.loggers.append(make(label, config, job_type=job_type, run_tags=tuple(tags)))
            except Exception as error:
                begun.finish(succeeded=False)
                raise TrackerError(
                    f"Expected logger.{name} to start, got: {type(error).__name__}: {error}; "
                    "logger=none goes on without a tracker, logger.wandb.mode=offline without its "
                    "server"
                ) from error
        return begun

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers of a step."""
        self._each(lambda item: item.log_metrics(metrics, step))

    def log_result(self, result: TrialResult) -> None:
        """Record the result of a trial."""
        self._each(lambda item: item.log_result(result))

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Record what a run found."""
        self._each(lambda item: item.log_summary(values))

    def keep_best(self, name: str, direction: Direction) -> None:
        """Take the best value of a metric for the run's summary."""
        self._each(lambda item: item.keep_best(name, direction))

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Record a table."""
        self._each(lambda item: item.log_frame(name, table))

    def log_picture(self, name: str, path: Path) -> None:
        """Record a picture."""
        self._each(lambda item: item.log_picture(name, path))

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Record files under one name."""
        self._each(lambda item: item.log_files(name, kind, paths))

    def finish(self, succeeded: bool = True) -> None:
        """Close the run."""
        self._each(lambda item: item.finish(succeeded))

    def _each(self, action: Callable[[Any], object]) -> None:
        for item in self.loggers:
            try:
                action(item)
            except Exception as error:
                kind = type(item).__name__
                logger.warning(
                    "%s did not take a record: %s: %s", kind, type(error).__name__, error
                )
