"""The weights with the lowest validation loss."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class BestWeights(Callback):
    """Keeps a copy of the weights with the lowest validation loss, and puts it back.

    Trainable tensors are copied to main memory one by one, as this process holds them, so that it
    does not matter how a strategy shards weights across processes.
    """

    def __init__(self) -> None:
        self.loss = math.inf
        self.step = 0
        self._weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights when the validation loss is the lowest so far."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.loss:
            self.loss, self.step = loss, int(trainer.global_step)
            self._weights = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in _changing(pl_module.model).items()
            }

    def restore(self, model: torch.nn.Module) -> None:
        """Restore the best weights if there was an evaluation."""
        tensors = _changing(model)
        with torch.no_grad():
            for name, value in self._weights.items():
                tensors[name].copy_(value)
        self._weights = {}

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, for a checkpoint."""
        return {"loss": self.loss, "step": self.step, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the best weights from a checkpoint."""
        self.loss, self.step = float(state_dict["loss"]), int(state_dict["step"])
        self._weights = state_dict["weights"]


def _changing(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Trained parameters, shared ones once, and buffers."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {**trained, **dict(model.named_buffers())}
