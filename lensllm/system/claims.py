"""Claims: which process runs which trial, so that campaigns that share a store run it once.

A claim is a small file that its owner touches every few seconds. It saves work, but results do not
depend on it: two processes that ran the same trial would find the same result, and the store would
keep it once. So it needs no locks, and works on shared file systems.

A claim is stale, and taken over, when its owner is a process of this machine that has ended, or
when its file has not changed for `STALE_SECONDS` by the clock of whoever waits (clocks of several
machines are never compared).

A claim is as long as a result may be, and so keeps room for it on the disk, see `Claims.give_room`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensllm.system.atomic import StorageError, is_full, storage_words

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # NFS may show a file's time a minute late
POLL_SECONDS = 0.5
CLAIM_BYTES = 4096  # at most, before its room
ROOM_BYTES = 256 * 1024  # a result takes about 4 kB, and 8 bytes for each test example


class Claims:
    """A folder of claims.

    Args:
        folder: Where the claims are; created with the first one.
        heartbeat_seconds: How often the owner touches its claim.
        stale_seconds: After how long without a touch a claim is taken over.

    Example:
        >>> import tempfile
        >>> claims = Claims(Path(tempfile.mkdtemp()))
        >>> with claims.hold("abc") as mine:
        ...     mine, Claims(claims.folder).owner("abc")["pid"] == os.getpid()
        (True, True)
        >>> claims.owner("abc") is None
        True
    """

    def __init__(
        self,
        folder: Path,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.folder = folder
        self.heartbeat_seconds = heartbeat_seconds
        self.stale_seconds = stale_seconds
        self._watched: dict[str, tuple[Any, float]] = {}

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Claim a key for the length of the block.

        Yields:
            Whether the claim is held; `False` while another process holds it. If no claim can be
            written for another reason than a full disk, this is `True`: claims prevent no trial
            whose result has room.

        Raises:
            StorageError: The disk is full.
        """
        name = uuid.uuid4().hex
        try:
            held = self._take(key, name)
        except OSError as error:
            if is_full(error):
                raise StorageError(storage_words(self._path(key), error)) from error
            logger.warning(
                "No claim can be written below %s (%s): another campaign on this store might run "
                "the same trials",
                self.folder,
                error,
            )
            yield True
            return
        if not held:
            yield False
            return
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(self._path(key), done), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            done.set()
            beat.join()
            with contextlib.suppress(OSError):
                if (self.owner(key) or {}).get("name") == name:
                    self._path(key).unlink()

    def owner(self, key: str) -> dict[str, Any] | None:
        """Who holds a key: `name`, `host`, `pid` and so on; `None` where no process does."""
        return _read(self._path(key))

    def give_room(self, key: str) -> bool:
        """Shorten a claim of this process on a disk that is full, for the result of its trial.

        Returns:
            Whether there was any room to give.
        """
        path = self._path(key)
        owner = self.owner(key) or {}
        if owner.get("pid") != os.getpid() or owner.get("machine") != _machine():
            return False
        length = len(json.dumps(owner).encode())
        if path.stat().st_size <= length + 1:
            return False
        os.truncate(path, length)
        return True

    def is_held(self, key: str) -> bool:
        """Whether there is a claim whose owner is not known to have ended."""
        owner = self.owner(key)
        return owner is not None and not _is_gone(owner)

    def _take(self, key: str, name: str) -> bool:
        """Write a claim where there is none or a stale one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key)
        temporary = self.folder / f".writing-{name}.tmp"
        text = json.dumps({"name": name, **_this_process()})
        try:
            temporary.write_text(text + " " * ROOM_BYTES, encoding="utf-8")
            for _ in range(2):
                try:
                    _create(temporary, path)
                    self._watched.pop(key, None)
                    return True
                except FileExistsError:
                    if not self._is_stale(key) or not self._remove_stale(key):
                        return False
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def _is_stale(self, key: str) -> bool:
        """Whether the owner has ended, or has not touched the claim for `stale_seconds`."""
        owner = self.owner(key)
        if owner is None:
            return True
        if _is_gone(owner):
            return True
        try:
            seen = (owner.get("name"), self._path(key).stat().st_mtime_ns)
        except OSError:
            return True
        now = time.monotonic()
        before, since = self._watched.get(key, (None, now))
        if seen != before:
            self._watched[key] = (seen, now)
            return False
        return now - since > self.stale_seconds

    def _remove_stale(self, key: str) -> bool:
        """Move a stale claim away; `False` where another process was faster."""
        path, stale = self._path(key), self.owner(key)
        aside = self.folder / f".stale-{uuid.uuid4().hex}.tmp"
        try:
            path.rename(aside)
        except FileNotFoundError:
            return True
        moved = _read(aside) or {}
        if stale is not None and moved.get("name") != stale.get("name"):  # a new one: put it back
            with contextlib.suppress(FileExistsError):
                _create(aside, path)
            aside.unlink(missing_ok=True)
            return False
        aside.unlink(missing_ok=True)
        return True

    def _beat(self, path: Path, done: threading.Event) -> None:
        while not done.wait(self.heartbeat_seconds):
            with contextlib.suppress(OSError):
                os.utime(path)


def _read(path: Path) -> dict[str, Any] | None:
    """What a claim says; nothing where it cannot be read, `None` where there is none."""
    try:
        with path.open(encoding="utf-8") as stream:
            owner = json.loads(stream.read(CLAIM_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _create(written: Path, path: Path) -> None:
    """Give a complete file its final name; unlike a rename, this fails if that name exists."""
    try:
        os.link(written, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("x", encoding="utf-8") as stream:
            stream.write(written.read_text(encoding="utf-8"))


def _this_process() -> dict[str, Any]:
    """What identifies this process among all, those of other machines and containers included."""
    return {
        "host": platform.node(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _machine() -> str | None:
    """A name of the running system and its process numbers (Linux); `None` where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks; `None` where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to have been a process of this machine that has ended."""
    machine = _machine()
    pid, started = owner.get("pid"), owner.get("started")
    if machine is None or owner.get("machine") != machine or started is None:
        return False
    return isinstance(pid, int) and _started(pid) != started
