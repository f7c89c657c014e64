"""Errors from modules of one's own: where they came from, and their traceback in the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path


def place_in(error: BaseException, modules: Sequence[str]) -> str:
    """Where in these modules an error came from; empty if it came from elsewhere.

    Args:
        error: The error, as it was caught.
        modules: Names of modules or packages (`allowed_targets`).

    Returns:
        Function, file and line of the innermost call, as in `Climb.rank, my_selector.py:30`.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        if any(f"{module}.".startswith(f"{name}.") for name in modules):
            code = frame.f_code
            place = f"{code.co_qualname}, {Path(code.co_filename).name}:{line}"
    return place


def log_traceback(error: BaseException) -> None:
    """Write the traceback to the run's log files, not to the terminal."""
    text = "".join(traceback.format_exception(error))
    record = logging.LogRecord("lensllm", logging.ERROR, "", 0, text, (), None)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
