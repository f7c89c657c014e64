"""Faults from outside: of processes, of files in the store, of clocks and of the disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from lensllm.core.trials import Trial, TrialResult
from lensllm.studies.soak.campaigns import Plan
from lensllm.studies.soak.faulty import YEAR

TMPFS_BYTES = 8 * 2**20


@dataclass
class Disturber:
    """Injects faults into the processes and the store of a round.

    Attributes:
        plan: The plan of the round.
        draw: Source of random numbers.
        process: The process of the campaigns.
        is_tmpfs: Whether the store is on a file system that is small enough to be filled.
        inodes: Files that are no finished trials, and must never be removed: number, and name.
    """

    plan: Plan
    draw: random.Random
    process: psutil.Process
    is_tmpfs: bool = False
    inodes: dict[int, str] = field(default_factory=dict)
    _keys: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """Folder of the store."""
        return Path(self.plan.store)

    def disturb(self) -> None:
        """One fault, drawn at random."""
        faults: dict[str, Callable[[], bool]] = {
            "SIGKILL of the campaign": self.kill_campaign,
            "SIGKILL of a worker": self.kill_worker,
            "worker stopped for a while": self.pause_worker,
            "truncated trial": self.truncate,
            "changed byte in a trial": self.change_byte,
            "foreign file": self.add_foreign,
            "foreign trial under a name that is needed": self.add_impostor,
            "claim of a process that never comes back": self.add_claim,
            "changed byte in the record of a campaign": self.change_ledger,
            "file times years away": self.shift_times,
        }
        if self.is_tmpfs:
            faults["full tmpfs"] = self.fill_disk
        name = self.draw.choice(list(faults))
        with contextlib.suppress(psutil.Error, FileNotFoundError, FileExistsError):
            if faults[name]():
                self.plan.journal.write("fault", kind=name)

    def kill_campaign(self) -> bool:
        """SIGKILL: nothing can be done before the end."""
        self.process.kill()
        return True

    def kill_worker(self) -> bool:
        """SIGKILL of one of the processes that run trials."""
        workers = self._workers()
        if workers:
            self.draw.choice(workers).kill()
        return bool(workers)

    def pause_worker(self) -> bool:
        """A process that does nothing for half a second."""
        workers = self._workers()
        if workers:
            worker = self.draw.choice(workers)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            worker.send_signal(signal.SIGCONT)
        return bool(workers)

    def truncate(self) -> bool:
        """Cut a finished trial somewhere, possibly to nothing."""
        path = self._finished()
        if path is not None:
            self._spoil(path)
            os.truncate(path, self.draw.randrange(path.stat().st_size))
        return path is not None

    def change_byte(self) -> bool:
        """Change one bit of a finished trial."""
        path = self._finished()
        if path is not None:
            self._spoil(path)
            self._flip(path)
        return path is not None

    def add_foreign(self) -> bool:
        """A file, folder or link that has nothing to do with the store, or another's trial."""
        name = f"foreign-{self.draw.randrange(10**9)}"
        path = self.store / f"{name}.json"
        what = self.draw.randrange(5)
        if what == 0:
            path.write_bytes(self.draw.randbytes(300))
        elif what == 1:
            path.mkdir()
        elif what == 2:
            path.symlink_to(self.store / "nowhere")
        elif what == 3:
            path = self.store / f".writing-{name}.tmp"
            path.write_text("{", encoding="utf-8")
        else:  # a whole trial, of the same point but another recipe
            result = _impostor(self._trial())
            path = self.store / f"{result.trial.key}.json"
            _create(path, json.dumps(result.to_json()))
        self.inodes[path.lstat().st_ino] = path.name
        return True

    def add_impostor(self) -> bool:
        """A whole trial with a better loss, or a folder, under the name of one that has not run."""
        trial = self._trial()
        begun = {line.get("key") for line in self.plan.journal.read()}
        path = self.store / f"{trial.key}.json"
        if trial.key in begun or path.exists():
            return False
        if self.draw.random() < 0.3:
            path.mkdir()
        else:
            _create(path, json.dumps(_impostor(trial).to_json()))
        self.inodes[path.lstat().st_ino] = path.name
        return True

    def add_claim(self) -> bool:
        """A claim of another machine that is never touched, or one that cannot be read."""
        claims = self.store / ".claims"
        claims.mkdir(parents=True, exist_ok=True)
        owner = {"name": "other", "host": "other", "machine": "other", "pid": 1, "started": "1"}
        text = json.dumps(owner) if self.draw.random() < 0.7 else "{"
        _create(claims / f"{self._trial().key}.json", text)
        return True

    def change_ledger(self) -> bool:
        """Change one bit of what a campaign keeps about its course."""
        paths = list((self.store / ".campaigns").glob("*.json"))
        if paths:
            path = self.draw.choice(paths)
            self._flip(path)
        return bool(paths)

    def shift_times(self) -> bool:
        """The times of all files of the store are up to ten years in the past or the future."""
        for path in list(self.store.rglob("*")):
            if path.is_file():
                then = time.time() + YEAR * self.draw.uniform(-10, 10)
                with contextlib.suppress(OSError):
                    os.utime(path, (then, then))
        return True

    def fill_disk(self) -> bool:
        """Not a byte is free for a while."""
        path = self.store.parent / "filler"
        try:
            with path.open("wb", buffering=0) as stream:
                for size in (65536, 4096, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            stream.write(bytes(size))
            time.sleep(self.draw.uniform(0.3, 1.0))
        finally:
            path.unlink(missing_ok=True)
        return True

    def _workers(self) -> list[psutil.Process]:
        """The processes that run trials: of multiprocessing, or of Ray."""
        found = []
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if "spawn_main" in words or words.startswith("ray::_run"):
                    found.append(process)
        return found

    def _finished(self) -> Path | None:
        ended = {line["key"] for line in self.plan.journal.read() if line["what"] == "end"}
        paths = [path for key in sorted(ended) if (path := self.store / f"{key}.json").is_file()]
        return self.draw.choice(paths) if paths else None

    def _spoil(self, path: Path) -> None:
        """Note that a finished trial is spoilt, before it is: it may be run again."""
        self.plan.journal.write("spoilt", key=path.stem)
        self.inodes[path.stat().st_ino] = path.name

    def _flip(self, path: Path) -> None:
        with path.open("r+b") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size:
                place = self.draw.randrange(size)
                stream.seek(place)
                (old,) = stream.read(1)
                stream.seek(place)
                stream.write(bytes([old ^ (1 << self.draw.randrange(8))]))

    def _trial(self) -> Trial:
        """Any trial that a campaign can ask for."""
        runner = self.plan.runner(self.draw.randrange(self.plan.n_sets))
        task = runner.task()
        return runner.complete(task.trial(*self.draw.choice(sorted(task.costs))))


def _impostor(trial: Trial) -> TrialResult:
    """A result that would win, of another recipe."""
    other = replace(trial, settings={"recipe": 2})
    return TrialResult(other, "completed", test_loss=1e-3, test_loss_per_byte=1e-3, flops=1.0)


def _create(path: Path, text: str) -> None:
    """Write a file whole, where there is none.

    Raises:
        FileExistsError: There is one.
    """
    temporary = path.parent / f".writing-soak-{path.stem}.tmp"
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small tmpfs at a folder, where that is permitted; whether it was."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
        is_mounted = done.returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
