"""The base classes of runners, which run trials, and executors, which say where they are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
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

    def saved_at(self, trial: Trial) -> float | None:
        """When a trial that has not finished was last saved, in seconds since the epoch."""
        return None

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

    def examples(self, n: int) -> list[list[str]]:
        """The first `n` (input, target) pairs for a report; none if only losses were recorded."""
        return []


class Executor:
    """Where trials are executed; this class runs them in this process, one after the other.

    Attributes:
        n_workers: Number of trials that run at the same time.
        n_gpus: GPUs of this machine among which they are divided, where they run on GPUs.
    """

    n_workers: int = 1
    n_gpus: int = 1

    def __init__(self) -> None:
        self._started: deque[tuple[Runner, Trial]] = deque()

    @property
    def n_here(self) -> int:
        """How many of the trials that run at the same time share the memory of this machine."""
        return self.n_workers

    def start(self, runner: Runner, trial: Trial) -> None:
        """Run a trial as soon as a place is free; do not wait for it."""
        self._started.append((runner, trial))

    def next(self) -> tuple[Trial, TrialResult]:
        """Wait until one of the started trials has ended; the trial as started, and its result.

        Raises:
            Exception: Any error that a trial raised, after the trials that were running have ended.
        """
        runner, trial = self._started.popleft()
        return trial, runner.run(trial)

    def close(self) -> None:
        """Stop the trials that are still running, and forget those that wait."""
        self._started.clear()
