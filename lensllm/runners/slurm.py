"""Trials as jobs of a cluster, through submitit."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensllm.quiet import quiet_libraries
from lensllm.selection.campaign import Runner
from lensllm.trials import Trial, TrialResult

logger = logging.getLogger(__name__)

CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class SlurmExecutor:
    """Submits the trials of a decision as one job each, and waits for them.

    A job that dies (its node, its time, its memory) is submitted again, and its trial goes on from
    its checkpoint; results are stored by the job that found them. The folders of the store, of the
    data and of the jobs' logs have to be the same on all nodes.

    Attributes:
        folder: Folder of the jobs' logs.
        cluster: `slurm`; `local` for processes of this machine, `debug` for this process.
        retries: How often a trial is submitted again after its job died.
        parameters: What `submitit.AutoExecutor.update_parameters` takes.

    Raises:
        ValueError: submitit is missing, or an argument is out of its range.
    """

    folder: str
    cluster: str = "slurm"
    retries: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)

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
            RuntimeError: A job died too often, or a trial raised; with the path of its log.
        """
        import submitit

        executor = submitit.AutoExecutor(folder=Path(self.folder), cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        with executor.batch():
            jobs = [executor.submit(_run, runner, trial) for trial in trials]
        for trial, job in zip(trials, jobs, strict=True):
            yield self._result(executor, job, runner, trial)

    def _result(self, executor: Any, job: Any, runner: Runner, trial: Trial) -> TrialResult:
        """The result of a job, or of another one in its place where it died."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        for left in reversed(range(self.retries + 1)):
            try:
                return job.result()
            except UncompletedJobError as error:
                raised = isinstance(error, FailedJobError)  # by the trial: it would again
                what = _last_line(str(error)) if raised else f"it is {job.state}"
                words = (
                    f"Expected job {job.job_id} of {trial.model}, D = {trial.n_samples}, to "
                    f"finish: {what} (log: {job.paths.stderr}); finished trials are in the store"
                )
                if raised or not left:
                    raise RuntimeError(words) from error
                logger.warning(words)
                job = executor.submit(_run, runner, trial)
        raise AssertionError("not reached")

    def close(self) -> None:
        """Nothing to end: jobs end by themselves."""


def _last_line(trace: str) -> str:
    """Of a trace that submitit put between two lines of dashes: what was raised."""
    return trace.split("-" * 22)[-2].strip().splitlines()[-1]


def _run(runner: Runner, trial: Trial) -> TrialResult:
    """One trial; the function of a job."""
    quiet_libraries()
    return runner.run(trial)
