"""Runs other programs within a time limit, leaving no processes behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lensllm.system.harmless import one_row, redact
from lensllm.system.interrupts import end_session

TAIL_BYTES = 16384


def run_program(words: Sequence[str], log: Path, seconds: float | None = None) -> int | None:
    """Run a program whose output goes to a file.

    It runs in a session of its own, so that Ctrl-C reaches it through this process. However this
    function ends, by the program's end, by the time limit or by a signal, it ends what is left of
    that session.

    Args:
        words: The program and its arguments; no shell sees them.
        log: File of its output and errors.
        seconds: Time limit; `None` for none.

    Returns:
        Its exit code, negative for a signal; `None` where it ran longer.

    Raises:
        OSError: The program cannot be started.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_session(process.pid)
        if process.poll() is None:  # a system without /proc
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_lines(log: Path, most: int = 3) -> str:
    """The last lines of a program's output that are not empty, in one row and without secrets."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return one_row(redact(" | ".join(lines[-most:])))
