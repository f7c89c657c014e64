"""Trials as jobs on a Slurm cluster, through submitit."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import Trial, TrialResult
from lensllm.system.interrupts import children_without_interrupts, end_with
from lensllm.system.quiet import quiet_libraries

logger = logging.getLogger(__name__)

CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class SlurmExecutor(Executor):
    """Submits the trials of a decision as one job each, and waits for them.

    A job that dies (of a node failure, a time limit or lack of memory) is resubmitted, and its
    trial resumes from its checkpoint. A trial whose jobs keep dying has failed, and the others
    continue. Each job stores its own result. The folders of the store, of the data and of the jobs'
    logs must be shared by all nodes.

    Unfinished jobs are cancelled when the campaign ends early. If this process is killed, jobs on a
    cluster continue and store their results; those on this machine end.

    Attributes:
        folder: Folder of the jobs' logs.
        cluster: `slurm`; `local` for processes on this machine, `debug` for this process.
        retries: How often a trial is resubmitted after its job died.
        parameters: Arguments of `submitit.AutoExecutor.update_parameters`.

    Raises:
        ValueError: submitit is missing, or an argument is out of range.
    """

    folder: str
    cluster: str = "slurm"
    retries: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    _jobs: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise ValueError(
                f"Expected executor.cluster among {', '.join(CLUSTERS)}, got {self.cluster!r}"
            )
        if self.retries < 0:
            raise ValueError(f"Expected executor.retries >= 0, got {self.retries}")
        if importlib.util.find_spec("submitit") is None:
            raise ValueError(
                "Expected the package submitit for executor=slurm, found none: `pip install "
                "submitit`, or take executor=pool"
            )

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results, in the order of the trials; all jobs are submitted first.

        Raises:
            RuntimeError: A trial raised an error; the message has the path of its job's log.
                Before, jobs that have not begun are cancelled, and the others are waited for.
        """
        import submitit

        executor = submitit.AutoExecutor(folder=Path(self.folder), cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        with children_without_interrupts(), executor.batch():
            jobs = [self._submit(executor, runner, trial) for trial in trials]
        self._jobs[:] = jobs
        for trial, job in zip(trials, jobs, strict=True):
            yield self._result(executor, job, runner, trial)

    def _submit(self, executor: Any, runner: Runner, trial: Trial) -> Any:
        owner = os.getpid() if self.cluster == "local" else None
        return executor.submit(_run, runner, trial, owner)

    def _result(self, executor: Any, job: Any, runner: Runner, trial: Trial) -> TrialResult:
        """The result of a job, or of its replacement if it died."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        for left in reversed(range(self.retries + 1)):
            try:
                return job.result()
            except FailedJobError as error:  # raised by the trial, which would raise it again
                self._wind_up()
                raise RuntimeError(
                    f"Expected job {job.job_id} of {trial.model}, D = {trial.n_samples}, to "
                    f"finish: {_last_line(str(error))} (log: {job.paths.stderr}); finished trials "
                    "are in the store"
                ) from error
            except UncompletedJobError:
                words = (
                    f"its job {job.job_id} ended without a result (state {job.state}, log "
                    f"{job.paths.stderr})"
                )
                if left:
                    logger.warning(
                        "Expected %s, D = %d, to finish, %s: it is submitted again; finished "
                        "trials are in the store",
                        trial.model,
                        trial.n_samples,
                        words,
                    )
                    with children_without_interrupts():
                        job = self._submit(executor, runner, trial)
                    self._jobs.append(job)
        attempts = self.retries + 1
        reason = f"{words} in {attempts} of {attempts} attempts"
        return TrialResult.failure(trial, reason, error_code="process_died")

    def _wind_up(self) -> None:
        """Cancel the jobs that have not begun, and wait for the others."""
        for job in self._jobs:
            if job.state == "PENDING":
                job.cancel()
        for job in self._jobs:
            job.wait()

    def close(self) -> None:
        """Cancel the jobs that have not finished; those of this machine end with it."""
        for job in self._jobs:
            if self.cluster == "slurm" and not job.done():
                job.cancel(check=False)
        self._jobs.clear()


def _last_line(trace: str) -> str:
    """The error in a traceback that submitit put between two lines of dashes."""
    return trace.split("-" * 22)[-2].strip().splitlines()[-1]


def _run(runner: Runner, trial: Trial, owner: int | None) -> TrialResult:
    """The function of a job: run one trial; on this machine it ends when its owner ends."""
    end_with(owner)
    quiet_libraries()
    return runner.run(trial)
