"""Who runs trials, and where: what a campaign and its entry points ask of runners and executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from lensllm.core.task import Task
from lensllm.core.trials import Trial, TrialResult, TrialStore


class Runner(ABC):
    """Runs trials.

    `ReplayRunner` looks them up, `FineTuneRunner` fine-tunes, and `CommandRunner` runs the
    user's own training program.

    A runner says in `task` what can be asked and in `run` what was found. All else has the answer
    of a runner that looks trials up, which keeps nothing and has no files to inspect.

    Attributes:
        store: Where finished trials are kept; `None` where nothing is.
    """

    store: TrialStore | None = None

    @abstractmethod
    def task(self) -> Task:
        """What can be asked, and what it costs."""

    @abstractmethod
    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result."""

    def complete(self, trial: Trial) -> Trial:
        """The trial with all settings that decide its outcome."""
        return trial

    def inspect(self, n_processes: int = 1) -> dict[str, str]:
        """Look at every candidate before anything is spent.

        Args:
            n_processes: Processes that share this machine's main memory.

        Returns:
            Those that cannot be tried, with the reason; `task` leaves them out.
        """
        return {}

    def known(self) -> list[TrialResult]:
        """Stored results of trials that a campaign could ask for."""
        return []

    def data_summary(self) -> dict[str, Any]:
        """Fingerprint and sizes of the data set; empty where only losses were recorded."""
        return {}


class Executor:
    """Where trials are executed; by itself here, each when the one before has ended.

    Attributes:
        n_workers: Trials that run at once on this machine.
    """

    n_workers: int = 1

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results of trials that do not wait for each other, in the order of the trials."""
        return (runner.run(trial) for trial in trials)

    def close(self) -> None:
        """End what is still running."""
