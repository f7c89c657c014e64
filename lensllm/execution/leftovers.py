"""What runs leave on disk beside finished trials: found, with sizes, and removed on request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lensllm.core.trials import TrialStore
from lensllm.system.claims import STALE_SECONDS

DAY = 86400.0


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no finished trial needs.

    Attributes:
        kind: `checkpoint`, `tokens` (encoded data), `claim` or `temporary`.
        path: Where it is.
        n_bytes: Its size, with everything in it.
        age_days: Days since it was last written.
        state: What it is, in a few words.
        is_in_use: Whether a running process needs it, or it is too new to tell.
    """

    kind: str
    path: Path
    n_bytes: int
    age_days: float
    state: str
    is_in_use: bool


def find_leftovers(store: TrialStore, cache: Path, older_than_days: float) -> list[Leftover]:
    """All leftovers of a store and of a cache, the largest first.

    Finished trials, files that were set aside, logs, and fetched data sets are none.

    Args:
        store: The store.
        cache: The folder of caches; encoded data are in `tokens` there.
        older_than_days: What was written later counts as being in use, unless its process is known
            to have ended.

    Raises:
        ValueError: The age is negative.
    """
    if not older_than_days >= 0:
        raise ValueError(f"Expected older_than_days >= 0, got {older_than_days}")
    found = [
        *_checkpoints(store, older_than_days),
        *_claims(store, older_than_days),
        *_tokens(cache / "tokens", older_than_days),
        *_temporary((store.folder, cache, cache / "tokens"), older_than_days),
    ]
    return sorted(found, key=lambda item: -item.n_bytes)


def prune(leftovers: Iterable[Leftover]) -> int:
    """Remove leftovers that are not in use.

    Returns:
        The bytes that were freed.

    Raises:
        OSError: One cannot be removed.
    """
    freed = 0
    for item in leftovers:
        if item.is_in_use:
            continue
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)
        freed += item.n_bytes
    return freed


def _checkpoints(store: TrialStore, days: float) -> Iterator[Leftover]:
    """Checkpoints, which are in use while a process holds the claim of their trial."""
    for path in _files(store.folder / ".unfinished"):
        key = path.name.partition(".")[0]
        if (store.folder / f"{key}.json").is_file():
            state, is_new = "of a finished trial", False
        else:
            state, is_new = "a trial could go on from it", _age(path) < days
        if store.claims.is_held(key):
            state, is_new = "its trial is running", True
        yield _leftover("checkpoint", path, state, is_new)


def _claims(store: TrialStore, days: float) -> Iterator[Leftover]:
    """Claims, whose owners touch them every few seconds, and what killed owners left beside."""
    for path in _files(store.claims.folder):
        age = _age(path)
        if path.suffix != ".json":
            yield _leftover("claim", path, "left by a process that was killed", age < days)
        elif not store.claims.is_held(path.stem):
            yield _leftover("claim", path, "its process has ended", False)
        else:
            is_touched = age < max(days, STALE_SECONDS / DAY)
            state = "its process is running" if is_touched else "its process has stopped"
            yield _leftover("claim", path, state, is_touched)


def _tokens(folder: Path, days: float) -> Iterator[Leftover]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.startswith("."):
            state = "encoded data; encoded again when needed"
            yield _leftover("tokens", path, state, _age(path) < days)


def _temporary(folders: Iterable[Path], days: float) -> Iterator[Leftover]:
    for folder in folders:
        for path in sorted(folder.glob(".writing-*")):
            state = "left by a process that was killed"
            yield _leftover("temporary", path, state, _age(path) < days)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir()) if folder.is_dir() else []


def _leftover(kind: str, path: Path, state: str, is_in_use: bool) -> Leftover:
    inside = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.lstat().st_size for file in inside if file.is_file())
    return Leftover(kind, path, size, _age(path), state, is_in_use)


def _age(path: Path) -> float:
    """Days since a file, or the newest file in a folder, was written."""
    times = [file.lstat().st_mtime for file in (path, *path.rglob("*"))]
    return max(0.0, (time.time() - max(times)) / DAY)
