"""Trials as jobs on a Slurm cluster, through submitit."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import ErrorCode, Trial, TrialResult
from lensllm.execution.preemption import check_save_seconds, end_when_told
from lensllm.execution.retries import Retries
from lensllm.system.interrupts import SAVE_SECONDS, children_without_interrupts, end_with
from lensllm.system.quiet import quiet_libraries

logger = logging.getLogger(__name__)

CLUSTERS = ("slurm", "local", "debug")
POLL_SECONDS = 1.0
# Between two looks at Slurm's queue, which all of its users share.
QUEUE_SECONDS = 10.0
# Slurm's reason for a job that waits since no process of it could be started.
HELD = re.compile("launch failed requeued held")
MAX_RELEASES = 3
# How long a shared folder may take to show the result of a job that has left the queue.
SHARED_FOLDER_SECONDS = 15.0


@dataclass
class _Job:
    """A job of a trial.

    Attributes:
        job: submitit's job.
        missed_at: When it was first missing in the queue; `None` while it is there.
        n_released: How often it was held since it could not be launched, and was released.
    """

    job: Any
    missed_at: float | None = None
    n_released: int = 0


@dataclass
class SlurmExecutor(Executor):
    """Submits each trial as a job of its own, and waits for the first that ends.

    A job that ends without a result (of a node failure, a time limit, lack of memory, or `scancel`)
    is submitted again, and its trial resumes from its checkpoint. A trial whose jobs keep ending
    so, and get no further, has failed, and the others continue. A job that Slurm requeues keeps its
    number and is waited for. Each job stores its own result. The folders of the store, of the data
    and of the jobs' logs must be shared by all nodes; the jobs read pickles from the last one, so
    nobody else may write there.

    Unfinished jobs are cancelled when the campaign ends early. If this process is killed, jobs on a
    cluster continue and store their results; those on this machine end.

    Whether a job has ended is read from `squeue`, which works without Slurm's accounting.

    Attributes:
        folder: Folder of the jobs' logs.
        cluster: `slurm`; `local` for processes on this machine, `debug` for this process.
        n_workers: Number of jobs at the same time, waiting ones included.
        retries: How often a trial is resubmitted whose job died and got no further.
        save_seconds: Seconds that a job of a cluster gets for a step and a checkpoint when Slurm
            tells it to end; Slurm kills it 30 s after SIGTERM unless it is configured otherwise.
        parameters: Arguments of `submitit.AutoExecutor.update_parameters`.

    Raises:
        ValueError: submitit is missing, or an argument is out of range.
    """

    folder: str
    cluster: str = "slurm"
    n_workers: int = 16
    retries: int = 1
    save_seconds: float = SAVE_SECONDS
    parameters: Mapping[str, Any] = field(default_factory=dict)
    _runner: Runner | None = field(default=None, init=False, repr=False)
    _jobs: dict[Trial, _Job] = field(default_factory=dict, init=False, repr=False)
    _attempts: Retries = field(init=False, repr=False)
    _executor: Any = field(default=None, init=False, repr=False)
    _looked_at: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise ValueError(
                f"Expected executor.cluster among {', '.join(CLUSTERS)}, got {self.cluster!r}"
            )
        for name, low in (("n_workers", 1), ("retries", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"Expected executor.{name} >= {low}, got {getattr(self, name)}")
        check_save_seconds(self.save_seconds)
        self._attempts = Retries(self.retries)
        if importlib.util.find_spec("submitit") is None:
            raise ValueError(
                "Expected the package submitit for executor=slurm, found none: `pip install "
                "submitit`, or take executor=pool"
            )

    @property
    def n_here(self) -> int:
        """Jobs run on other machines."""
        return 1

    def start(self, runner: Runner, trial: Trial) -> None:
        """Submit the job of a trial."""
        import submitit

        if self._executor is None:
            self._executor = submitit.AutoExecutor(folder=Path(self.folder), cluster=self.cluster)
            self._executor.update_parameters(**self.parameters)
        if self._runner is not runner:
            self._runner, self._attempts = runner, Retries(self.retries)
        self._jobs[trial] = _Job(self._submit(trial))

    def next(self) -> tuple[Trial, TrialResult]:
        """See `Executor.next`.

        Raises:
            RuntimeError: A trial raised an error; the message has the path of its job's log.
                Before, jobs that have not begun are cancelled, and the others are waited for.
        """
        while True:
            self._look_at_queue()
            for trial, job in list(self._jobs.items()):
                result = self._result(trial, job) if self._has_ended(job) else None
                if result is not None:
                    del self._jobs[trial]
                    return trial, result
            time.sleep(POLL_SECONDS)

    def _submit(self, trial: Trial) -> Any:
        given = self._runner, trial, self.cluster, os.getpid(), self.save_seconds
        with children_without_interrupts():
            return self._executor.submit(_run, *given)

    def _look_at_queue(self) -> None:
        """Note which jobs have left Slurm's queue."""
        now = time.monotonic()
        if self.cluster != "slurm" or now < self._looked_at + QUEUE_SECONDS:
            return
        self._looked_at = now
        command = ["squeue", "--me", "--noheader", "--format=%A %r"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:  # Slurm does not answer, which says nothing about the jobs
            return
        lines = (line.partition(" ") for line in answer.stdout.splitlines())
        reasons = {number: reason for number, _, reason in lines}
        for job in self._jobs.values():
            reason = reasons.get(job.job.job_id)
            job.missed_at = job.missed_at or now if reason is None else None
            if reason is not None and HELD.search(reason):
                _release(job)

    def _has_ended(self, job: _Job) -> bool:
        if self.cluster != "slurm":
            return bool(job.job.done())
        waited = 0.0 if job.missed_at is None else time.monotonic() - job.missed_at
        return job.job.paths.result_pickle.exists() or waited > SHARED_FOLDER_SECONDS

    def _result(self, trial: Trial, job: _Job) -> TrialResult | None:
        """The result of a job; `None` if it ended without one and was submitted again."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            if job.missed_at is None or job.job.paths.result_pickle.exists():
                return job.job.result()
        except FailedJobError as error:  # raised by the trial, which would raise it again
            self._wind_up()
            raise RuntimeError(
                f"Expected job {job.job.job_id} of {trial.model}, D = {trial.n_samples}, to "
                f"finish: {_last_line(str(error))} (log: {job.job.paths.stderr}); finished trials "
                "are in the store"
            ) from error
        except UncompletedJobError:
            pass
        state = self._state(job.job)
        words = (
            f"its job {job.job.job_id} ended without a result (state {state}, log "
            f"{job.job.paths.stderr})"
        )
        attempts = self.retries + 1
        assert self._runner is not None
        if not self._attempts.allow(self._runner, trial):
            reason = f"{words} in {attempts} of {attempts} attempts"
            code: ErrorCode = "out_of_memory" if state == "OUT_OF_MEMORY" else "process_died"
            return TrialResult.failure(trial, reason, error_code=code)
        logger.warning(
            "Expected %s, D = %d, to finish, %s: it is submitted again; finished trials are in the "
            "store",
            trial.model,
            trial.n_samples,
            words,
        )
        self._jobs[trial] = _Job(self._submit(trial))
        return None

    def _state(self, job: Any) -> str:
        """The state in which a job ended, such as `TIMEOUT` or `OUT_OF_MEMORY`."""
        if self.cluster != "slurm":
            return str(job.state)
        command = ["scontrol", "show", "job", job.job_id, "--oneliner"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"JobState=(\S+)", answer.stdout)
        return found[1] if found else str(job.state)  # forgotten after minutes, not by accounting

    def _wind_up(self) -> None:
        """Cancel the jobs that have not begun, and wait for the others."""
        for job in self._jobs.values():
            if job.job.state == "PENDING":
                job.job.cancel()
        while not all(self._has_ended(job) for job in self._jobs.values()):
            time.sleep(POLL_SECONDS)
            self._look_at_queue()
        self._jobs.clear()

    def close(self) -> None:
        """Cancel the jobs that have not finished; those of this machine end with it."""
        for job in self._jobs.values():
            if self.cluster == "slurm" and not self._has_ended(job):
                job.job.cancel(check=False)
        self._jobs.clear()
        self._attempts = Retries(self.retries)


def _release(job: _Job) -> None:
    """Let a job start that Slurm holds since its node could not launch it; the last time, end it.

    Nobody else would, and a campaign would wait for it for ever.
    """
    job.n_released += 1
    if job.n_released > MAX_RELEASES:
        job.job.cancel(check=False)
    else:
        logger.warning("Slurm could not launch job %s and holds it: released", job.job.job_id)
        subprocess.run(["scontrol", "release", job.job.job_id], capture_output=True, check=False)


def _last_line(trace: str) -> str:
    """The error in a traceback that submitit put between two lines of dashes."""
    return trace.split("-" * 22)[-2].strip().splitlines()[-1]


def _run(
    runner: Runner, trial: Trial, cluster: str, owner: int, save_seconds: float
) -> TrialResult:
    """The function of a job: run one trial.

    A job of a cluster ends when it is told to, by SIGUSR2 before its time limit, without the error
    that submitit would make of it; a job on this machine ends when its owner ends.
    """
    if cluster == "slurm":
        end_when_told(signal.SIGUSR2, save_seconds)
    elif cluster == "local":
        end_with(owner)
    quiet_libraries()
    return runner.run(trial)
