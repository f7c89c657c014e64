"""Trials in this process, one after the other."""

from __future__ import annotations

from lensllm.core.protocols import Executor


class LocalExecutor(Executor):
    """Executes trials in this process, one after the other."""
