"""What the runs of all experiment trackers share.

A run is a trial, a campaign or an analysis. All trackers are Lightning loggers, so that training
logs to them as it goes; what else a run holds (results, tables, pictures, files) each takes as it
can. A tracker that fails is reported once, and the run continues without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from lightning_fabric.loggers.logger import _DummyExperiment
from pytorch_lightning.loggers import Logger

from lensllm.core.measures import Direction
from lensllm.core.trials import TrialResult
from lensllm.system.harmless import redact

logger = logging.getLogger(__name__)

_SUMMARY = (
    "test_loss",
    "test_loss_per_byte",
    "validation_loss",
    "n_params",
    "n_tokens",
    "flops",
    "seconds",
    "peak_memory_bytes",
)


def result_metrics(result: TrialResult) -> dict[str, float]:
    """The numbers of a result that go on a run's summary."""
    measures = {f"result/{name}": found.value for name, found in result.measures.items()}
    return {f"result/{name}": float(getattr(result, name)) for name in _SUMMARY} | measures


class RunLogger(Logger):
    """What the trackers share: comes before a Lightning logger among a class's bases.

    Attributes:
        tracker: Name of the tracker in messages.
    """

    tracker: ClassVar[str] = "its tracker"
    _failed = False

    @property
    def experiment(self) -> Any:
        """The tracker's own run, or a stand-in that ignores everything once it has failed."""
        if not self._failed:
            try:
                return self._begin()
            except Exception as error:
                self._give_up(error)
        return _DummyExperiment()

    def _begin(self) -> Any:
        return super().experiment

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        words = f"{type(error).__name__}: {error}"
        logger.warning("The run continues without %s: %s", self.tracker, words)

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something that may fail without harm to the run."""
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._give_up(error)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers of a step."""
        self._attempt(lambda: super(RunLogger, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *more: Any) -> None:
        """Record settings."""
        self._attempt(lambda: super(RunLogger, self).log_hyperparams(redact(params), *more))

    def log_result(self, result: TrialResult) -> None:
        """Record the result of a trial."""
        self.log_summary({**result_metrics(result), "status": result.status}, result.n_steps)

    def log_summary(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record what a run found: by default its numbers, as those of its last step."""
        numbers = {key: value for key, value in values.items() if _is_number(value)}
        self.log_metrics(numbers, step)

    def keep_best(self, name: str, direction: Direction) -> None:
        """Take the best value of a metric for the run's summary, if the tracker can."""

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Record a table, if the tracker has a place for it."""

    def log_picture(self, name: str, path: Path) -> None:
        """Record a picture, if the tracker has a place for it."""

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Record files under one name, if the tracker has a place for them."""

    def save(self) -> None:
        """Write what is buffered."""
        self._attempt(lambda: super(RunLogger, self).save())

    def finalize(self, status: str) -> None:
        """What Lightning calls when training ends."""
        self._attempt(lambda: super(RunLogger, self).finalize(status))

    def finish(self, succeeded: bool = True) -> None:
        """Close the run."""
        self.finalize("success" if succeeded else "failed")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
