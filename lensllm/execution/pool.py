"""Trials in several processes of this machine at once."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import Trial, TrialResult
from lensllm.system.interrupts import CHILD_GRACE_SECONDS, children_without_interrupts, end_with
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
        at: Position of its trial; `None` while it waits for one.
    """

    process: Any
    connection: Connection
    at: int | None = None

    def give(self, at: int, trials: Sequence[Trial]) -> None:
        """Send it a trial."""
        self.at = at
        with contextlib.suppress(OSError):  # it died before, which `take` will report
            self.connection.send(trials[at])

    def take(self) -> tuple[int, Any]:
        """Position of its trial, and the result, the error, or `None` if it died."""
        at, self.at = self.at, None
        assert at is not None
        try:
            return at, self.connection.recv()
        except (EOFError, OSError):
            return at, None


@dataclass
class PoolExecutor(Executor):
    """Executes trials in processes of its own, each of which runs one at a time.

    The trials of one decision are independent, so their results do not depend on how many run at
    once. A process that dies (for lack of memory, say) is replaced and its trial restarted, from
    its checkpoint if there is one. A trial whose processes keep dying has failed, and the others
    continue. Each process stores its own results, so a finished trial is never lost. After an error
    no new trial is started, and running ones are waited for. If this process is killed, the others
    end within about a second.

    Attributes:
        n_workers: Number of processes. Each has the data and one model in memory.
        retries: How often a trial is restarted after its process died.
        gpus: Indices of the GPUs that the processes use, in turn; `None` leaves it to CUDA.

    Raises:
        ValueError: A number is out of range.
    """

    n_workers: int = 2
    retries: int = 1
    gpus: Sequence[int] | None = None
    n_gpus: int = field(default=1, init=False)
    _workers: list[Worker] = field(default_factory=list, init=False, repr=False)
    _runner: Runner | None = field(default=None, init=False, repr=False)

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
        gpus = self.gpus
        if gpus is not None and (isinstance(gpus, str | int) or not gpus):
            raise ValueError(
                f"Expected indices of GPUs as executor.gpus, such as [0,1], got {gpus!r}: null "
                "leaves the choice to CUDA"
            )
        if any(not isinstance(gpu, int) or isinstance(gpu, bool) or gpu < 0 for gpu in gpus or ()):
            raise ValueError(f"Expected indices >= 0 in executor.gpus, got {list(gpus or ())}")
        self.n_gpus = len(set(gpus or [0]))  # CUDA alone gives all processes the first one

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results, in the order of the trials, each as soon as all before it are available.

        Raises:
            Exception: Any error that a trial raised.
        """
        self._start(runner, min(self.n_workers, len(trials)))
        waiting = deque(range(len(trials)))
        results: dict[int, TrialResult] = {}
        deaths = [0] * len(trials)
        error: Exception | None = None
        following = 0
        while following < len(trials):
            if error is None:
                self._hand_out(trials, waiting)
            busy = {worker.connection: worker for worker in self._workers if worker.at is not None}
            if not busy and error is not None:
                raise error
            for worker in [busy[connection] for connection in wait(list(busy))]:  # type: ignore[index]
                at, answer = worker.take()
                if isinstance(answer, TrialResult):
                    results[at] = answer
                elif isinstance(answer, Exception):
                    error = error or answer
                else:
                    deaths[at] += 1
                    how = self._replace(worker)
                    if deaths[at] > self.retries:
                        reason = OUT_OF_TRIES.format(how=how, attempts=deaths[at])
                        results[at] = TrialResult.failure(trials[at], reason)
                    else:
                        waiting.appendleft(at)
                        logger.warning(DIED, trials[at].model, trials[at].n_samples, how)
            while following in results:
                yield results.pop(following)
                following += 1

    def close(self) -> None:
        """End the processes; running trials get a second to clean up."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(2.0 * CHILD_GRACE_SECONDS)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()
        self._runner = None

    def _hand_out(self, trials: Sequence[Trial], waiting: deque[int]) -> None:
        for worker in self._workers:
            if worker.at is None and waiting:
                worker.give(waiting.popleft(), trials)

    def _start(self, runner: Runner, n_workers: int) -> None:
        """Start `n_workers` processes for this runner."""
        if self._runner is not runner:
            self.close()
            self._runner = runner
        while len(self._workers) < n_workers:
            self._workers.append(self._worker(len(self._workers)))

    def _worker(self, number: int) -> Worker:
        gpu = None if self.gpus is None else self.gpus[number % len(self.gpus)]
        context = multiprocessing.get_context("spawn")  # a fork would share CUDA and threads
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, gpu, self.n_workers), daemon=True)
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


def _work(connection: Connection, gpu: int | None, n_workers: int) -> None:
    """The main function of a process: run incoming trials until the connection is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with(parent.pid)
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
