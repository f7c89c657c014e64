"""Processes that a scheduler has started, and tells to end some time before it kills them."""

from __future__ import annotations

import os
import signal

from lensllm.system.interrupts import end_with

MOST_SAVE_SECONDS = 600.0  # a scheduler that waits longer is not known


def check_save_seconds(seconds: float) -> None:
    """Check how long running trials get for a step and a checkpoint.

    Raises:
        ValueError: It is out of range.
    """
    if not 0.0 <= seconds <= MOST_SAVE_SECONDS:
        raise ValueError(
            f"Expected executor.save_seconds from 0 to {MOST_SAVE_SECONDS:g}, got {seconds!r}"
        )


def end_when_told(number: int, save_seconds: float) -> None:
    """End this process at SIGTERM or another signal, without a word; a trial is saved before.

    Further signals do not hurry it, since schedulers send several in a row and kill in the end. It
    also ends when the process that started it has ended. In the main thread.

    Args:
        number: The other signal.
        save_seconds: Seconds for a step of training and a checkpoint.
    """
    end_with(os.getppid(), save_seconds)
    signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
