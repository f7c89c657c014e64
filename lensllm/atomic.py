"""Files that are there whole or not at all, and disks without room for them."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it.

    A killed process leaves the old file or the new one, and processes that write the same file do
    not mix. Temporary files start with `.writing-`.

    Args:
        path: The file; its folder is made where there is none.
        text: What is to be in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files only their owner can read: a folder may be a group's.
    temporary = path.parent / f".writing-{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def full_disk(error: BaseException, what: str) -> str | None:
    """What to tell where a full disk is behind an error of the Hub's libraries; else `None`.

    Args:
        error: The error, with its causes.
        what: What was to be cached.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) == errno.ENOSPC:
            cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
            return (
                f"Expected room for the cache of {what!r} below {cache}, got: {cause}; free some, "
                "or set HF_HOME to another disk"
            )
        cause = cause.__cause__ or cause.__context__
    return None
