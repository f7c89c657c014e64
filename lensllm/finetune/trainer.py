"""Lightning trainers for GPUs."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch


def make_gpu_trainer(*, tf32: bool = True, **options: Any) -> pl.Trainer:
    """A Lightning trainer, with TensorFloat-32 for what stays in float32.

    Args:
        tf32: Whether float32 matrix products may round to TF32 (10 bits of mantissa).
        **options: What `pytorch_lightning.Trainer` takes.

    Raises:
        ValueError: A GPU is asked for and there is none.
    """
    if options.get("accelerator") == "gpu" and not torch.cuda.is_available():
        raise ValueError(
            "Expected a CUDA device for trainer.accelerator=gpu, found none: take trainer=cpu"
        )
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    return pl.Trainer(**options)
