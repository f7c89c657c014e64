"""Files that are there whole or not at all."""

from __future__ import annotations

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
