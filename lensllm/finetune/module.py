"""The Lightning module: one for decoder-only and encoder-decoder models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torchmetrics import SumMetric
from transformers import get_scheduler

from lensllm.finetune.adapters import trained_names
from lensllm.finetune.encoding import example_losses, target_loss


class DivergedError(RuntimeError):
    """A loss became infinite or NaN during training."""


class LanguageModelModule(pl.LightningModule):
    """Fine-tunes a language model on the cross-entropy of target tokens.

    Losses of a data set are summed over all target tokens and divided by their number, never a
    mean of batch means, so they do not depend on how the data were cut into batches.

    Args:
        model: A causal or encoder-decoder model; put into train mode, which `from_pretrained`
            leaves off.
        make_optimizer: Makes an optimizer from parameter groups.
        make_scheduler: Makes a learning-rate schedule by step from (optimizer, number of steps).
    """

    def __init__(
        self,
        model: Any,
        make_optimizer: Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer],
        make_scheduler: Callable[[torch.optim.Optimizer, int], Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.model.train()
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        self.sums = torch.nn.ModuleDict(
            {
                f"{stage}_{name}": SumMetric(nan_strategy="disable").set_dtype(torch.float64)
                for stage in ("val", "test")
                for name in ("loss", "tokens", "bytes")
            }
        )
        self.n_train_tokens = 0
        self.n_evaluation_tokens = 0
        self.trace: list[tuple[int, float]] = []
        self.test_examples: list[tuple[float, int, int]] = []

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Mean loss per target token of one batch."""
        total, n_targets = target_loss(self.model, batch)
        loss = total * batch["loss_scale"] if "loss_scale" in batch else total / n_targets
        if not torch.isfinite(loss):
            raise DivergedError(f"the training loss is {loss.item()} at step {self.global_step}")
        self.n_train_tokens += int(batch["n_tokens"])
        self.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Add one batch to the sums of the validation set."""
        self._add("val", batch)

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Add one batch to the sums of the test set, and note its examples."""
        sums, tokens = example_losses(self.model, batch)
        columns = (sums, tokens, batch["n_bytes"])
        self.test_examples += zip(*(column.tolist() for column in columns), strict=True)
        self._add("test", batch, (sums.sum(), tokens.sum()))

    def _add(
        self, stage: str, batch: Mapping[str, Tensor], found: tuple[Tensor, Tensor] | None = None
    ) -> None:
        total, n_targets = found or target_loss(self.model, batch)
        self.sums[f"{stage}_loss"].update(total)
        self.sums[f"{stage}_tokens"].update(n_targets)
        self.sums[f"{stage}_bytes"].update(batch["n_bytes"].sum())
        self.n_evaluation_tokens += int(batch["n_tokens"])

    def _mean(self, stage: str, unit: str) -> float:
        total, count = self.sums[f"{stage}_loss"].compute(), self.sums[f"{stage}_{unit}"].compute()
        return float(total / count)

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` in nats per target token, and put it on the trace."""
        loss = self._mean("val", "tokens")
        self.trace.append((int(self.global_step), loss))
        self.log("val_loss", loss, prog_bar=True)
        self._reset("val")

    def on_test_epoch_end(self) -> None:
        """Log `test_loss` per target token and `test_loss_per_byte`, both in nats."""
        self.log("test_loss", self._mean("test", "tokens"))
        self.log("test_loss_per_byte", self._mean("test", "bytes"))
        self._reset("test")

    def _reset(self, stage: str) -> None:
        for name in ("loss", "tokens", "bytes"):
            self.sums[f"{stage}_{name}"].reset()

    @property
    def strict_loading(self) -> bool:
        """Frozen weights are not in checkpoints: they are loaded with the pre-trained model."""
        return False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out; add what was counted so far."""
        trained = {f"model.{name}" for name in trained_names(self.model)}
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: w for n, w in weights.items() if n in trained}
        checkpoint["counted"] = {
            "train": self.n_train_tokens,
            "evaluation": self.n_evaluation_tokens,
            "trace": [list(point) for point in self.trace],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counts."""
        counted = checkpoint["counted"]
        self.n_train_tokens = counted["train"]
        self.n_evaluation_tokens = counted["evaluation"]
        self.trace = [(int(step), float(loss)) for step, loss in counted["trace"]]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, fused optimizers in bf16 included.

        Lightning refuses those because in fp16 they unscale gradients by themselves; in bf16 there
        is no scale.
        """
        shared = self.trainer.strategy.model
        if isinstance(shared, FullyShardedDataParallel) and gradient_clip_val:
            shared.clip_grad_norm_(gradient_clip_val)  # the norm is over all processes
            return
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        plain_norm = gradient_clip_algorithm in (None, "norm")
        if fused and plain_norm and self.trainer.precision == "bf16-mixed" and gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """Weight decay on matrices alone (not on biases and norms); schedule by step."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = self.make_optimizer([group for group in groups if group["params"]])
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.make_scheduler(optimizer, n_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def warmup_schedule(
    optimizer: torch.optim.Optimizer,
    n_steps: int,
    *,
    name: str = "linear",
    warmup_fraction: float = 0.1,
) -> Any:
    """A schedule of `transformers`: linear warm-up, then `linear`, `cosine` or `constant`.

    Args:
        optimizer: The optimizer.
        n_steps: Optimizer steps of the whole run.
        name: Name of the schedule; `constant_with_warmup` keeps the rate.
        warmup_fraction: Share of the steps in which the rate rises from 0.

    Raises:
        ValueError: The share is not in [0, 1).
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"Expected `warmup_fraction` in [0, 1), got {warmup_fraction}")
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=round(warmup_fraction * n_steps),
        num_training_steps=n_steps,
    )
