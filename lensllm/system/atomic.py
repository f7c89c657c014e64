"""Atomic file writes, and errors of full disks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)


class StorageError(ValueError):
    """A file or folder cannot be written; the message has its path and what to do."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it.

    A killed process or a power failure leaves the old file or the new one, and processes that write
    the same file do not mix. Temporary files start with `.writing-`.

    Args:
        path: The file; its folder is created if missing.
        content: Content of the file; text is written as UTF-8, with line ends unchanged.

    Raises:
        StorageError: The file cannot be written.
    """
    # Not mkstemp, whose files only their owner can read: a folder may be a group's.
    temporary = path.parent / f".writing-{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(storage_words(path, error)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_verified(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of any kind atomically, and beside it its SHA-256 as `NAME.sha256`.

    Args:
        path: The file; its folder is created if missing.
        write: Writes to the path that it is given.

    Raises:
        StorageError: The file cannot be written.
    """
    temporary = path.parent / f".writing-{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        digest = digest_of_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(storage_words(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    write_whole(path.with_name(f"{path.name}.sha256"), digest + "\n")


def is_as_written(path: Path) -> bool:
    """Whether a file is there as `write_verified` left it; one that is not is set aside."""
    if not path.is_file():
        return False
    digest = path.with_name(f"{path.name}.sha256")
    try:
        if digest.read_text(encoding="ascii").strip() == digest_of_file(path):
            return True
    except (OSError, UnicodeDecodeError):
        pass
    logger.warning("Set aside %s, which has no digest or is not as it was written", path)
    set_aside(path)
    return False


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: a rename is durable only once its folder is.

    Systems that cannot open folders (Windows) write them by themselves.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(handle)


def storage_words(path: Path, error: OSError) -> str:
    """Message for a file that cannot be written: its path, why, and what to do."""
    ways = {
        errno.ENOSPC: "free some space, or name a folder on another disk",
        errno.EDQUOT: "the quota is used up: free some space, or name a folder on another disk",
        errno.EROFS: "the file system is read-only: name another folder",
        errno.EACCES: "change its permissions, or name another folder",
        errno.EPERM: "change its permissions, or name another folder",
    }
    way = ways.get(error.errno or 0, "name another folder")
    return (
        f"Expected to write {path}, got: {error.strerror or error}; {way} (paths.output_dir, "
        "paths.store_dir and paths.cache_dir say where lensllm writes)"
    )


def check_writable(folder: Path) -> None:
    """Write a file into a folder and remove it; folders that are missing are made.

    Raises:
        StorageError: That is not possible. Found before a campaign starts, this loses no paid
            compute.
    """
    probe = folder / f".writing-{uuid.uuid4().hex}.tmp"
    write_whole(probe, "lensllm asks whether it can write here\n")
    with contextlib.suppress(OSError):
        probe.unlink()


def set_aside(path: Path) -> Path:
    """Rename a file or folder that cannot be used, so that its place is free; nothing is lost.

    Returns:
        Where it is now: the same name with `.set-aside` and, from the second on, a number.
    """
    for number in range(1, 1000):
        place = path.with_name(f"{path.name}.set-aside{'' if number == 1 else f'-{number}'}")
        if not place.exists():
            path.rename(place)
            return place
    raise StorageError(f"Expected fewer than 1000 files {path.name}.set-aside-*: remove some")


def is_full(error: BaseException) -> bool:
    """Whether a full disk, or a quota that is used up, caused an error."""
    return _no_room(error) is not None


def full_disk(error: BaseException, what: str) -> str | None:
    """Message if a full disk caused an error of the Hub's libraries; else `None`.

    Args:
        error: The error, with its causes.
        what: What was to be cached.
    """
    cause = _no_room(error)
    if cause is None:
        return None
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"Expected room for the cache of {what!r} below {cache}, got: {cause}; free some, "
        "or set HF_HOME to another disk"
    )


def _no_room(error: BaseException | None) -> BaseException | None:
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None
