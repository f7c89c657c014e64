"""Checkpoints from which a killed trial resumes and reaches the same weights, bit for bit."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lensllm.system.atomic import StorageError, set_aside
from lensllm.system.interrupts import is_ending, keep_handlers, leave_if_ended

logger = logging.getLogger(__name__)

# Keys that every Lightning checkpoint of a trial has.
_PARTS = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "counted")


class Checkpoints(Callback):
    """Saves the full state of a trial periodically, and restores random generators on resuming.

    A checkpoint is written after a training step at which nothing else is due: no evaluation, no
    end of an epoch, no partly accumulated batch. Lightning stores weights, optimizer, schedule,
    progress and the callbacks; this adds the position in the epoch's order, and the states of the
    random generators, which dropout draws from.

    Args:
        path: The file; each checkpoint replaces the one before atomically.
        every_seconds: Seconds between checkpoints; 0 writes one at every step that allows it.
        key: Key of the trial, which is written into its checkpoints.

    Attributes:
        micro_batch_size: The setting of the run, without which its place in the epoch's order would
            have no meaning; written likewise.
    """

    micro_batch_size: int | None = None

    def __init__(self, path: Path, every_seconds: float, key: str = "") -> None:
        self.path = path
        self.every_seconds = every_seconds
        self.key = key
        self.seconds_before = 0.0
        self._start = self._last = time.monotonic()
        self._n_batches = 0
        self._generators: dict[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the time from here."""
        self._last = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Skip the batches of the epoch that were done before."""
        keep_handlers()  # Lightning's would end the trial at SIGTERM without a checkpoint
        if self._generators is not None:
            trainer.train_dataloader.batch_sampler.start = self._n_batches

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the generators as late as possible, since creating iterators draws from them."""
        if self._generators is not None:
            set_generators(self._generators)
            self._generators = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a checkpoint where one is due and nothing else is; at a signal, then end."""
        self._n_batches = batch_idx + 1
        due = time.monotonic() - self._last >= self.every_seconds or is_ending()
        if trainer.world_size > 1:
            due = bool(trainer.strategy.broadcast(due))
        if due and _is_quiet(trainer, batch_idx):
            self._write(trainer)
            self._last = time.monotonic()
            leave_if_ended()

    def _write(self, trainer: pl.Trainer) -> None:
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        if trainer.world_size > 1:
            temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            logger.warning(
                "No checkpoint at %s (%s): the trial continues, but starts from the beginning if "
                "it is killed",
                self.path,
                error,
            )
            self.every_seconds = float("inf")

    def state_dict(self) -> dict[str, Any]:
        """Batches done in the epoch, states of the generators, and seconds that the trial took."""
        spent = self.seconds_before + time.monotonic() - self._start
        return {
            "key": self.key,
            "n_batches": self._n_batches,
            "micro_batch_size": self.micro_batch_size,
            "generators": get_generators(),
            "seconds": spent,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load this state from a checkpoint."""
        self._n_batches = int(state_dict["n_batches"])
        self._generators = state_dict["generators"]
        self.seconds_before = float(state_dict["seconds"])


def _is_quiet(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether neither an evaluation nor the end of an epoch or batch follows this step."""
    n_batches = trainer.fit_loop.total_batch_idx + 1
    return (
        not trainer.is_last_batch
        and n_batches % trainer.val_check_batch != 0
        and (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    )


def usable_checkpoint(path: Path | None, key: str = "") -> Path | None:
    """The checkpoint to resume from; a file there that is not of this trial is set aside.

    Args:
        path: Where it would be; `None` for no checkpoints.
        key: Key of the trial.

    Returns:
        The path, or `None` where the trial has to start anew.

    Raises:
        StorageError: The file there cannot be renamed.
    """
    if path is None or not path.exists():
        return None
    try:
        # Weights only: a checkpoint of somebody else must not run code here.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = [name for name in _PARTS if name not in content]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        state = content["callbacks"].get(Checkpoints.__qualname__)
        if state is None or state.get("key", "") != key:
            raise ValueError("it is of another trial")
    except Exception as error:
        try:
            place = set_aside(path)
        except OSError as refusal:
            raise StorageError(
                f"Expected a checkpoint of this trial in {path}, which is none ({error}), or to "
                f"rename it, got: {refusal}; remove it"
            ) from refusal
        logger.warning(
            "Set aside %s as %s, since no trial can go on from it (%s): it starts anew",
            path,
            place.name,
            error,
        )
        return None
    return path


def checkpointed_micro_batch(path: Path) -> int | str | None:
    """The micro-batch size with which a usable checkpoint was written.

    Returns:
        The size, `None` for whole batches, `unknown` in checkpoints that do not tell it.
    """
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content["callbacks"][Checkpoints.__qualname__].get("micro_batch_size", "unknown")


def get_generators() -> dict[str, Any]:
    """States of the random generators of Python and torch, in types that load safely."""
    version, words, gauss = random.getstate()
    return {
        "python": [version, list(words), gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """The inverse of `get_generators`."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
