"""What a tracker shows of training beside the losses: rate, gradient, speed, compute."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.distributed.fsdp import FullyShardedDataParallel


class TrainingStats(Callback):
    """Logs the learning rate, the gradient's norm, tokens per second and FLOPs so far.

    `gradient_norm` is the Euclidean norm over all trained parameters before clipping; it is left
    out where each process holds a part of them (FSDP). `tokens_per_second` are tokens of source
    and target in training since the last logged step, validation in between included, of one
    process. `cumulative_flops` are those of training and evaluation until then, and are in the same
    rows as `train_loss` and `val_loss`, so that they can be the x axis of both. It only observes.

    Args:
        flops_per_token: FLOPs of one token in training and in evaluation.
    """

    def __init__(self, flops_per_token: tuple[float, float]) -> None:
        self.flops_per_token = flops_per_token
        self._since, self._tokens = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock; a resumed run has its tokens already."""
        self._since, self._tokens = time.perf_counter(), pl_module.n_train_tokens

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log what a step is about to use, where Lightning logs the step."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps:
            return
        values = {"learning_rate": float(optimizer.param_groups[0]["lr"])}
        if not isinstance(trainer.strategy.model, FullyShardedDataParallel):
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            values["gradient_norm"] = torch.nn.utils.get_total_norm(grads)
        now, tokens = time.perf_counter(), pl_module.n_train_tokens
        values["tokens_per_second"] = (tokens - self._tokens) / max(now - self._since, 1e-9)
        self._since, self._tokens = now, tokens
        pl_module.log_dict({**values, "cumulative_flops": self._flops(pl_module)})

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the compute into the row of the validation loss."""
        pl_module.log("cumulative_flops", self._flops(pl_module))

    def _flops(self, module: Any) -> float:
        per_trained, per_evaluated = self.flops_per_token
        return per_trained * module.n_train_tokens + per_evaluated * module.n_evaluation_tokens
