"""The base classes of runners, which run trials, and executors, which say where they are run."""

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

    `task` says which trials can be run, and `run` returns their results. The defaults of the other
    methods suit a runner that looks trials up, which stores nothing and has no files to inspect.

    Attributes:
        store: Where finished trials are kept; `None` if they are not.
        deadline: When running trials are to be ended, in seconds since the epoch; `None` for never.
    """

    store: TrialStore | None = None
    deadline: float | None = None

    @abstractmethod
    def task(self) -> Task:
        """The selection task: the trials that can be run, and their costs."""

    @abstractmethod
    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result."""

    def complete(self, trial: Trial) -> Trial:
        """The trial with all settings that determine its outcome."""
        return trial

    def inspect(self, n_processes: int = 1, n_gpus: int = 1) -> dict[str, str]:
        """Look at every candidate before anything is spent.

        Args:
            n_processes: Processes that share this machine's main memory.
            n_gpus: GPUs that these processes use in turn, if they use any.

        Returns:
            Candidates that cannot be run, with the reason; `task` leaves them out.
        """
        return {}

    def known(self) -> list[TrialResult]:
        """Stored results of trials that a campaign could ask for."""
        return []

    def data_summary(self) -> dict[str, Any]:
        """Fingerprint and sizes of the data set; empty if only losses were recorded."""
        return {}


class Executor:
    """Where trials are executed; this class runs them in this process, one after the other.

    Attributes:
        n_workers: Number of trials that run at the same time on this machine.
        n_gpus: GPUs of this machine among which they are divided, where they run on GPUs.
    """

    n_workers: int = 1
    n_gpus: int = 1

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results of independent trials, in the order of the trials."""
        return (runner.run(trial) for trial in trials)

    def close(self) -> None:
        """Stop the trials that are still running."""
