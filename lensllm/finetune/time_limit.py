"""Ends a trial at its time limit."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class TimedOutError(Exception):
    """A trial has reached its time limit."""


class TimeLimit(Callback):
    """Raises `TimedOutError` after the first batch, of whatever kind, beyond the limit.

    Loading and encoding count, but are not interrupted. Processes that train together end at the
    same batch.

    Args:
        seconds: The limit, from now.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def _check(self, trainer: pl.Trainer) -> None:
        is_over = time.monotonic() > self._until
        if trainer.world_size > 1:
            is_over = bool(trainer.strategy.broadcast(is_over))
        if is_over:
            raise TimedOutError

    def on_train_batch_end(self, trainer: pl.Trainer, *batch: Any) -> None:
        """Check after a batch of training."""
        self._check(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *batch: Any) -> None:
        """Check after a batch of validation."""
        self._check(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, *batch: Any) -> None:
        """Check after a batch of the test."""
        self._check(trainer)
