"""Trials in several processes of this machine at once."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import Trial, TrialResult
from lensllm.execution.preemption import check_save_seconds
from lensllm.execution.retries import Retries
from lensllm.system.interrupts import (
    SAVE_SECONDS,
    children_without_interrupts,
    end_with,
    seconds_to_end,
)
from lensllm.system.quiet import quiet_libraries
from lensllm.system.resources import n_cpus

logger = logging.getLogger(__name__)

DIED = (
    "Expected the process at %s, D = %d, to finish, it died (%s): the trial starts again; finished "
    "trials are in the store"
)
OUT_OF_TRIES = (
    "its process died ({how}) in {attempts} of {attempts} attempts; where memory ran out, take "
    "fewer executor.n_workers"
)


@dataclass
class Worker:
    """One process, and the trial that it is running.

    Attributes:
        process: The process.
        connection: Connection for trials to it and results from it.
        trial: Its trial; `None` while it waits for one.
    """

    process: Any
    connection: Connection
    trial: Trial | None = None

    def give(self, trial: Trial) -> None:
        """Send it a trial."""
        self.trial = trial
        with contextlib.suppress(OSError):  # it died before, which `take` will report
            self.connection.send(trial)

    def take(self) -> tuple[Trial, Any]:
        """Its trial, and the result, the error, or `None` if it died."""
        trial, self.trial = self.trial, None
        assert trial is not None
        try:
            return trial, self.connection.recv()
        except (EOFError, OSError):
            return trial, None


@dataclass
class PoolExecutor(Executor):
    """Executes trials in processes of its own, each of which runs one at a time.

    Trials are independent, so their results do not depend on how many run at once. A process that
    dies (for lack of memory, say) is replaced and its trial restarted, from its checkpoint if there
    is one. A trial whose processes keep dying has failed, and the others continue. Each process
    stores its own results, so a finished trial is never lost. After an error no new trial is
    started, and running ones are waited for. If this process is killed, the others end within about
    a second; at a preemption (SIGTERM, SIGUSR1) they first save their trials.

    Attributes:
        n_workers: Number of processes. Each has the data and one model in memory.
        retries: How often a trial is restarted whose process died and got no further.
        gpus: Indices of the GPUs that the processes use, in turn; `None` leaves it to CUDA.
        save_seconds: Seconds that running trials get for a step and a checkpoint at a preemption;
            Slurm kills 30 s after SIGTERM unless it is configured otherwise.

    Raises:
        ValueError: A number is out of range.
    """

    n_workers: int = 2
    retries: int = 1
    gpus: Sequence[int] | None = None
    save_seconds: float = SAVE_SECONDS
    n_gpus: int = field(default=1, init=False)
    _workers: list[Worker] = field(default_factory=list, init=False, repr=False)
    _runner: Runner | None = field(default=None, init=False, repr=False)
    _waiting: deque[Trial] = field(default_factory=deque, init=False, repr=False)
    _ended: deque[tuple[Trial, TrialResult]] = field(default_factory=deque, init=False, repr=False)
    _attempts: Retries = field(init=False, repr=False)
    _error: Exception | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        most = max(16, 4 * n_cpus())
        for name, low, high in (("n_workers", 1, most), ("retries", 0, 100)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"Expected executor.{name} >= {low}, got {value!r}")
            if value > high:
                raise ValueError(
                    f"Expected executor.{name} <= {high} on {n_cpus()} cores, got {value}"
                )
        check_save_seconds(self.save_seconds)
        gpus = self.gpus
        if gpus is not None and (isinstance(gpus, str | int) or not gpus):
            raise ValueError(
                f"Expected indices of GPUs as executor.gpus, such as [0,1], got {gpus!r}: null "
                "leaves the choice to CUDA"
            )
        if any(not isinstance(gpu, int) or isinstance(gpu, bool) or gpu < 0 for gpu in gpus or ()):
            raise ValueError(f"Expected indices >= 0 in executor.gpus, got {list(gpus or ())}")
        self._attempts = Retries(self.retries)
        self.n_gpus = len(set(gpus or [0]))  # CUDA alone gives all processes the first one

    def start(self, runner: Runner, trial: Trial) -> None:
        """Run a trial as soon as a process is free; processes are started when they are needed."""
        if self._runner is not runner:
            self.close()
            self._runner = runner
        is_busy = all(worker.trial is not None for worker in self._workers)
        if is_busy and len(self._workers) < self.n_workers:
            self._workers.append(self._worker(len(self._workers)))
        self._waiting.append(trial)
        self._hand_out()

    def next(self) -> tuple[Trial, TrialResult]:
        """See `Executor.next`."""
        while self._error is not None or not self._ended:
            busy = {w.connection: w for w in self._workers if w.trial is not None}
            if self._error is not None and not busy:
                error, self._error = self._error, None
                self._ended.clear()
                raise error
            for connection in wait(list(busy)):
                self._receive(busy[connection])  # type: ignore[index]
            self._hand_out()
        return self._ended.popleft()

    def _receive(self, worker: Worker) -> None:
        """Take the answer of a process, or replace it if it died."""
        trial, answer = worker.take()
        if isinstance(answer, TrialResult):
            self._ended.append((trial, answer))
        elif isinstance(answer, Exception):
            self._error = self._error or answer
            self._waiting.clear()
        else:
            how = self._replace(worker)
            assert self._runner is not None
            if not self._attempts.allow(self._runner, trial):
                reason = OUT_OF_TRIES.format(how=how, attempts=self.retries + 1)
                failed = TrialResult.failure(trial, reason, error_code="process_died")
                self._ended.append((trial, failed))
            elif self._error is None:
                self._waiting.appendleft(trial)
                logger.warning(DIED, trial.model, trial.n_samples, how)

    def close(self) -> None:
        """End the processes; at a preemption running trials are saved, else they get a moment."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        until = time.monotonic() + seconds_to_end(self.save_seconds)
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        self._workers.clear()
        self._waiting.clear()
        self._ended.clear()
        self._attempts = Retries(self.retries)
        self._runner = self._error = None

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.trial is None and self._waiting:
                worker.give(self._waiting.popleft())

    def _worker(self, number: int) -> Worker:
        gpu = None if self.gpus is None else self.gpus[number % len(self.gpus)]
        context = multiprocessing.get_context("spawn")  # a fork would share CUDA and threads
        here, there = context.Pipe()
        given = there, gpu, self.n_workers, self.save_seconds
        process = context.Process(target=_work, args=given, daemon=True)
        resource_tracker.ensure_running()  # here, since it lets interrupts through when it starts
        with children_without_interrupts():
            process.start()
        there.close()
        with contextlib.suppress(OSError):  # it died already, which `take` will report
            here.send(self._runner)
        return Worker(process, here)

    def _replace(self, worker: Worker) -> str:
        """Replace a dead process; return how it died, in words."""
        worker.connection.close()
        worker.process.join()
        number = self._workers.index(worker)
        self._workers[number] = self._worker(number)
        code = worker.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _work(connection: Connection, gpu: int | None, n_workers: int, save_seconds: float) -> None:
    """The main function of a process: run incoming trials until the connection is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with(parent.pid, save_seconds)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    runner: Runner | None = None
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed it, or is gone
        pickled = connection.recv_bytes()
        while True:
            trial = connection.recv()
            try:
                if runner is None:
                    runner = pickle.loads(pickled)
                    quiet_libraries()  # after the imports, some of which turn messages on again
                    _share_cores(n_workers)
                answer: Any = runner.run(trial)
            except Exception as error:
                answer = _portable(error)
            connection.send(answer)


def _share_cores(n_workers: int) -> None:
    """Leave cores to the other processes, unless the environment sets the number of threads."""
    if "torch" in sys.modules and "OMP_NUM_THREADS" not in os.environ:
        sys.modules["torch"].set_num_threads(max(1, n_cpus() // n_workers))


def _portable(error: Exception) -> Exception:
    """The error itself, or its text if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
