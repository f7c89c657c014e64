"""Replayed trials with a store, some of which fail in a way that is drawn from a seed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from lensllm.core.task import Task
from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.data.pairs import TextData
from lensllm.execution.replay import ReplayRunner
from lensllm.execution.stored import StoredRunner
from lensllm.system.claims import Claims

STALE_SECONDS = 2.0  # two minutes outside a soak
YEAR = 365.0 * 86400.0
# What can go wrong within a trial, at its first attempt.
IN_TRIALS = {  # with how often; some of them end the campaign
    "SIGKILL of its process before a trial": 3,
    "SIGKILL of its process while a trial is stored": 4,
    "SIGKILL of its process after a trial is stored": 3,
    "error raised in a trial": 1,
    "trial that fails": 4,
    "delay of a trial": 4,
    "file size limit in a trial": 1,
}


class InjectedError(RuntimeError):
    """An error that a trial raises on purpose."""


@dataclass(frozen=True)
class Journal:
    """What happened, in the order in which it did: one JSON object a line, outside the store.

    Attributes:
        path: The file.
    """

    path: Path

    def write(self, what: str, **details: Any) -> None:
        """Append a line, whole even if the process is killed."""
        place = {"pid": os.getpid(), "at": round(time.monotonic(), 3)}
        line = json.dumps({"what": what, **place, **details}) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def read(self) -> list[dict[str, Any]]:
        """All lines."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


class FaultyRunner(StoredRunner):
    """Looks trials up in recorded curves and stores them; some first attempts fail.

    Args:
        replay: The recorded trials.
        store: Where finished trials are kept and found.
        journal: Where begins, ends and faults are written.
        seconds: The longest time that a trial takes without a fault.
        rate: Share of first attempts that have a fault.
        seed: Seed of the faults.
    """

    def __init__(
        self,
        replay: ReplayRunner,
        store: TrialStore,
        journal: Journal,
        seconds: float = 0.04,
        rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        task = replay.task()
        pairs = [("", "")] * task.n_samples_full
        data = TextData(task.dataset, pairs, [], [], "0" * 16)
        super().__init__(task.candidates, data, store, None, task.sizes, replay.seed)
        store.claims = Claims(store.claims.folder, STALE_SECONDS / 8, STALE_SECONDS)
        self.replay = replay
        self.journal = journal
        self.seconds = seconds
        self.rate = rate
        self.fault_seed = seed

    def _ladder(self) -> tuple[int, ...]:
        return self.replay.task().sizes

    def _in_unit(self, result: TrialResult) -> TrialResult:
        return result

    def task(self) -> Task:
        """The recorded task."""
        return self.replay.task()

    def complete(self, trial: Trial) -> Trial:
        """The trial with a setting, so that a foreign trial can have another."""
        return replace(trial, settings={"recipe": 1})

    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result."""
        return self._stored_or_new(self.complete(trial))

    def _run_new(self, trial: Trial) -> TrialResult:
        key = trial.key
        earlier = [line for line in self.journal.read() if line.get("key") == key]
        if earlier and earlier[-1]["what"] == "begin" and _is_running(earlier[-1]["pid"]):
            self.journal.write("overlap", key=key)
        self.journal.write("begin", key=key)
        draw = random.Random(f"{self.fault_seed} {key}")
        is_first = not any(line["what"] == "begin" for line in earlier)
        is_faulty = is_first and draw.random() < self.rate
        fault = draw.choices([*IN_TRIALS], [*IN_TRIALS.values()])[0] if is_faulty else ""
        if fault:
            self.journal.write("fault", kind=fault)
        with shifted_clock(YEAR * draw.uniform(-10, 10) if self.rate else 0.0):
            return self._run_with(fault, trial, draw)

    def _run_with(self, fault: str, trial: Trial, draw: random.Random) -> TrialResult:
        """Run a trial with a fault; it ends in the journal when it is in the store."""
        time.sleep(draw.uniform(0, self.seconds) + (0.5 if fault.startswith("delay") else 0.0))
        if fault.endswith("before a trial"):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.startswith("error raised"):
            self.journal.write("raised", key=trial.key)
            raise InjectedError(f"Expected an error in {trial.model}, got it")
        if fault.startswith("trial that fails"):
            self.journal.write("failed", key=trial.key)
            return TrialResult.failure(trial, "it was to fail")
        result = self.replay.run(trial)
        if fault.endswith("is stored") and "while" in fault:
            threading.Timer(draw.uniform(0, 0.004), os.kill, (os.getpid(), signal.SIGKILL)).start()
        with file_size_limit() if fault.startswith("file size") else contextlib.nullcontext():
            self.store.add(result)
        self.journal.write("end", key=trial.key)
        if fault.endswith("after a trial is stored"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@contextlib.contextmanager
def shifted_clock(seconds: float) -> Iterator[None]:
    """The wall clock of this process jumps by so much, and back at the end."""
    real = time.time
    time.time = lambda: real() + seconds
    try:
        yield
    finally:
        time.time = real


@contextlib.contextmanager
def file_size_limit(n_bytes: int = 100) -> Iterator[None]:
    """Files of this process cannot become larger than this: a full disk that needs no root."""
    import resource  # which Windows lacks

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _is_running(pid: int) -> bool:
    try:
        found = psutil.Process(pid)
        return pid != os.getpid() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
