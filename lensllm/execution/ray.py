"""Trials on a Ray cluster, or on this machine by Ray's scheduler."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import Trial, TrialResult
from lensllm.execution.preemption import check_save_seconds, end_when_told
from lensllm.execution.retries import Retries
from lensllm.system.interrupts import (
    SAVE_SECONDS,
    children_without_interrupts,
    leave_if_ended,
    seconds_to_end,
)
from lensllm.system.quiet import quiet_libraries

logger = logging.getLogger(__name__)

DIED = (
    "Expected the process at %s, D = %d, to finish, it died (%s): the trial starts again; finished "
    "trials are in the store"
)
OUT_OF_TRIES = (
    "its process died ({how}) in {attempts} of {attempts} attempts; where memory ran out, give it "
    "more executor.memory_gb"
)
# Read by Ray when it is imported and started on this machine: it reports no usage, is patient where
# the machine is busy, refuses connections without a token, and leaves the GPUs of trials that
# declare none to CUDA.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "120",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's 15 starves trials next to other work
}
STARTS = 3  # Ray waits for its own processes for no more than half a minute
STORE_BYTES = 100 * 2**20  # of shared memory, for the runner and the results


@contextlib.contextmanager
def _ending_as_told() -> Iterator[None]:
    """A block whose calls of Ray may be interrupted, of which Ray makes an exit code of its own."""
    try:
        yield
    except SystemExit:
        leave_if_ended()
        raise


@dataclass
class RayExecutor(Executor):
    """Runs each trial as a Ray task with the resources that it declares.

    Ray places a task on a node whose free CPUs, GPUs and memory suffice, and lets the others wait.
    A task whose process or node dies is started again, from its checkpoint if there is one; a trial
    whose processes keep dying has failed, and the others continue. After an error no new trial is
    started, and running ones are waited for.

    Without an address Ray is started on this machine, for this campaign alone: without its
    dashboard, with its files in a temporary folder, and with a random token that every connection
    needs. All of it ends with the campaign. On a cluster the folders of the store and of the data
    must be shared by all nodes.

    Attributes:
        address: Address of a running cluster, such as `10.0.0.1:6379`, or `auto`; `None` starts Ray
            on this machine.
        n_workers: Number of trials at the same time.
        num_cpus: CPUs of each trial.
        num_gpus: GPUs of each trial; a fraction lets trials share one.
        memory_gb: Main memory of each trial, in 10⁹ bytes, for the placement; `None` reserves none.
        retries: How often a trial is restarted whose process died and got no further.
        save_seconds: Seconds that running trials get for a step and a checkpoint at a preemption.

    Raises:
        ValueError: Ray is missing, or a number is out of range.
    """

    address: str | None = None
    n_workers: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_gb: float | None = None
    retries: int = 1
    save_seconds: float = SAVE_SECONDS
    n_gpus: int = field(default=1, init=False)
    _runner: Runner | None = field(default=None, init=False, repr=False)
    _shared: Any = field(default=None, init=False, repr=False)
    _tasks: dict[Any, Trial] = field(default_factory=dict, init=False, repr=False)
    _attempts: Retries = field(init=False, repr=False)
    _is_connected: bool = field(default=False, init=False, repr=False)
    _folder: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        for name, low in (("n_workers", 1), ("retries", 0), ("num_gpus", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not low <= value < math.inf:
                raise ValueError(f"Expected executor.{name} >= {low}, got {value!r}")
        memory_gb = 1.0 if self.memory_gb is None else self.memory_gb
        for name, value in (("num_cpus", self.num_cpus), ("memory_gb", memory_gb)):
            if not 0 < value < math.inf:
                raise ValueError(f"Expected executor.{name} > 0, got {value!r}")
        check_save_seconds(self.save_seconds)
        if importlib.util.find_spec("ray") is None:
            raise ValueError(
                'Expected the package ray for executor=ray, found none: `pip install "lensllm'
                '[ray]"`, or take executor=pool'
            )
        self._attempts = Retries(self.retries)
        self.n_gpus = max(1, math.ceil(self.n_workers * self.num_gpus))

    @property
    def n_here(self) -> int:
        """All of them without an address; the nodes of a cluster have memory of their own."""
        return self.n_workers if self.address is None else 1

    @_ending_as_told()
    def start(self, runner: Runner, trial: Trial) -> None:
        """Hand a trial to Ray, which runs it where and when its resources are free."""
        if not self._is_connected:
            self._connect()
        import ray

        if self._runner is not runner:
            self._runner, self._shared = runner, ray.put(runner)
        self._submit(trial)

    @_ending_as_told()
    def next(self) -> tuple[Trial, TrialResult]:
        """See `Executor.next`."""
        import ray

        while True:
            (task,), _ = ray.wait(list(self._tasks), num_returns=1)
            trial = self._tasks.pop(task)
            try:
                return trial, ray.get(task)
            except ray.exceptions.RayTaskError as error:  # raised by the trial
                self._wind_up()
                raise error.cause or error from None
            except ray.exceptions.RayError as error:
                how = type(error).__name__
            assert self._runner is not None
            if not self._attempts.allow(self._runner, trial):
                reason = OUT_OF_TRIES.format(how=how, attempts=self.retries + 1)
                return trial, TrialResult.failure(trial, reason, error_code="process_died")
            logger.warning(DIED, trial.model, trial.n_samples, how)
            self._submit(trial)

    def close(self) -> None:
        """End the trials that are still running, and Ray itself where it was started here.

        At a preemption they are saved before, else they get a moment.
        """
        if self._is_connected:
            import ray

            tasks = list(self._tasks)
            for task in tasks:
                ray.cancel(task)
            if tasks:
                seconds = seconds_to_end(self.save_seconds)
                _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
            for task in tasks:
                ray.cancel(task, force=True)
            ray.shutdown()
        self._tasks.clear()
        self._attempts = Retries(self.retries)
        self._runner = self._shared = None
        self._is_connected = False
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _submit(self, trial: Trial) -> None:
        import ray

        memory = None if self.memory_gb is None else int(1e9 * self.memory_gb)
        task = ray.remote(_run).options(
            num_cpus=self.num_cpus, num_gpus=self.num_gpus, memory=memory, max_retries=0
        )
        self._tasks[task.remote(self._shared, trial, self.save_seconds)] = trial

    def _wind_up(self) -> None:
        """Wait for the other trials, whose results are in the store."""
        import ray

        if self._tasks:
            ray.wait(list(self._tasks), num_returns=len(self._tasks))
        self._tasks.clear()

    def _connect(self) -> None:
        """Connect to the cluster, or start Ray here and check that it can hold a trial."""
        handler = signal.getsignal(signal.SIGTERM)
        self._is_connected = True
        try:
            if self.address is None:
                self._start_here()
            else:
                import ray

                ray.init(self.address, log_to_driver=False, configure_logging=False)
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray installs one of its own

    def _start_here(self) -> None:
        if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
            raise RuntimeError(
                "Expected Ray not to be imported before executor=ray starts it, got a process in "
                "which it was: set RAY_AUTH_MODE=token in its environment, without which anybody "
                "on this machine could send it pickles"
            )
        os.environ.update(SETTINGS)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        self._folder = tempfile.mkdtemp(prefix="lensllm-ray-")
        for left in reversed(range(STARTS)):
            try:
                with children_without_interrupts():
                    ray.init(
                        "local",
                        num_cpus=math.ceil(self.n_workers * self.num_cpus),
                        include_dashboard=False,
                        object_store_memory=STORE_BYTES,
                        log_to_driver=False,
                        configure_logging=False,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=self._folder,
                    )
                break
            except Exception as error:  # Ray raises a plain one
                ray.shutdown()
                if not left:
                    raise
                logger.warning("Expected Ray to start, got: %s; it is started again", error)
        has = ray.cluster_resources()
        for name, key, needed in (
            ("num_gpus", "GPU", self.num_gpus),
            ("memory_gb", "memory", 1e9 * (self.memory_gb or 0.0)),
        ):
            if needed > has.get(key, 0.0):
                unit = 1e9 if key == "memory" else 1.0
                raise ValueError(
                    f"Expected executor.{name} <= {has.get(key, 0.0) / unit:g}, which this machine "
                    f"has free for trials, got {needed / unit:g}: no trial could ever run"
                )


def _run(runner: Runner, trial: Trial, save_seconds: float) -> TrialResult:
    """The function of a task: run one trial.

    Its process is told to end by SIGTERM, or by `ray.cancel`, which acts as SIGINT does.
    """
    end_when_told(signal.SIGINT, save_seconds)
    quiet_libraries()
    return runner.run(trial)
