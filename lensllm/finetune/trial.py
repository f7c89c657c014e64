"""One trial, for real: fine-tune a candidate on a subset and measure its test loss."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from lensllm.data.pairs import TextData
from lensllm.finetune.adapters import FULL, frozen_names
from lensllm.finetune.checkpoint import Checkpoints, usable_checkpoint
from lensllm.finetune.encoding import (
    PROMPT,
    Collator,
    Example,
    PairEncoder,
    context_length,
    nested_subset,
)
from lensllm.finetune.loading import make_loader
from lensllm.finetune.models import ModelSource
from lensllm.finetune.module import DivergedError, FineTuner
from lensllm.trials import Trial, TrialResult

_PACKAGES = ("lensllm", "torch", "transformers", "pytorch-lightning")


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the outcome of a trial beside the model, the data and the optimizer.

    Attributes:
        batch_size: Examples a step.
        max_epochs: Passes over the subset.
        patience: Evaluations without a better validation loss after which training stops.
        n_evaluations: Evaluations on the validation set, evenly spread over the run.
        evaluation_batch_size: Examples a batch of validation and test; changes no result.
        prompt: Text around the input, see `PairEncoder`.
        micro_batch_size: Most examples that go through the model at once; a batch is cut into
            equal parts whose gradients are added up. `None` for whole batches. Like the two
            below, it is a matter of memory and time, not of the outcome, but for rounding and for
            which of their units dropout drops.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        compile: Compile the model with `torch.compile`.

    Raises:
        ValueError: A number is not positive.
    """

    batch_size: int = 16
    max_epochs: int = 3
    patience: int = 3
    n_evaluations: int = 6
    evaluation_batch_size: int = 64
    prompt: str = PROMPT
    micro_batch_size: int | None = None
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "max_epochs",
            "patience",
            "n_evaluations",
            "evaluation_batch_size",
            "micro_batch_size",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"Expected `{name}` > 0, got {value}")

    def n_steps(self, n_samples: int) -> int:
        """Optimizer steps of a whole run on `n_samples`."""
        return self.max_epochs * -(-n_samples // self.batch_size)

    def n_parts(self, world_size: int = 1) -> int:
        """Micro-batches that each of so many processes makes of a batch."""
        return max(
            1, -(-self.batch_size // ((self.micro_batch_size or self.batch_size) * world_size))
        )

    def decisive(self) -> dict[str, Any]:
        """The settings that a trial's outcome depends on."""
        free = ("evaluation_batch_size", "micro_batch_size", "gradient_checkpointing", "compile")
        return {name: value for name, value in asdict(self).items() if name not in free}


@dataclass(frozen=True)
class EncodedData:
    """The three splits, encoded for one model; the training split as the subset of one trial."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


class TrialData(pl.LightningDataModule):
    """The encoded splits as loaders, made in the process that needs them.

    Args:
        encoded: The splits.
        collator: Collator of examples.
        settings: Batch sizes.
        seed: Seed of the order of the training split.
    """

    def __init__(
        self, encoded: EncodedData, collator: Collator, settings: TrainingSettings, seed: int
    ) -> None:
        super().__init__()
        self.encoded = encoded
        self.collator = collator
        self.settings = settings
        self.seed = seed

    def _loader(self, examples: list[Example], batch_size: int, **options: Any) -> Any:
        trainer = self.trainer
        options |= {"rank": trainer.global_rank, "world_size": trainer.world_size}
        return make_loader(examples, self.collator, batch_size, seed=self.seed, **options)

    def train_dataloader(self) -> Any:
        """The subset, shuffled, in micro-batches."""
        n_parts = self.settings.n_parts(self.trainer.world_size)
        return self._loader(
            self.encoded.train, self.settings.batch_size, shuffle=True, n_parts=n_parts
        )

    def val_dataloader(self) -> Any:
        """The validation split, from short to long."""
        return self._loader(self.encoded.validation, self.settings.evaluation_batch_size)

    def test_dataloader(self) -> Any:
        """The test split, from short to long."""
        return self._loader(self.encoded.test, self.settings.evaluation_batch_size)


class BestWeights(Callback):
    """Keeps a copy of the weights with the lowest validation loss, and puts it back."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.step = 0
        self._weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights when the validation loss is the lowest so far."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.loss:
            self.loss, self.step = loss, int(trainer.global_step)
            model = pl_module.model
            frozen = frozen_names(model)
            self._weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in model.state_dict().items()
                if name not in frozen
            }

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights back, where there was an evaluation."""
        if self._weights:
            model.load_state_dict(self._weights, strict=False)
            self._weights = {}

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, for a checkpoint."""
        return {"loss": self.loss, "step": self.step, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them from a checkpoint."""
        self.loss, self.step = float(state_dict["loss"]), int(state_dict["step"])
        self._weights = state_dict["weights"]


def make_encoder(source: ModelSource, tokenizer: Any, data: TextData, prompt: str) -> PairEncoder:
    """The encoder of text pairs for one model and data set."""
    return PairEncoder(
        tokenizer,
        is_encoder_decoder=source.is_encoder_decoder,
        max_input_tokens=data.max_input_tokens,
        max_target_tokens=data.max_target_tokens,
        context=context_length(source.config),
        prompt=prompt,
    )


def run_trial(
    trial: Trial,
    source: ModelSource,
    data: TextData,
    settings: TrainingSettings,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    make_scheduler: Callable[..., Any],
    make_trainer: Callable[..., pl.Trainer],
    loggers: Sequence[Any] = (),
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 600.0,
) -> TrialResult:
    """Fine-tune on the trial's subset, with early stopping, and measure the test loss.

    Args:
        trial: Which subset and seed; D = 0 measures the pre-trained model as it is.
        source: The candidate.
        data: The data set.
        settings: Batch size, epochs and early stopping.
        make_optimizer: From parameter groups to an optimizer.
        make_scheduler: From (optimizer, number of steps) to a schedule.
        make_trainer: From callbacks, loggers and limits to a Lightning trainer.
        loggers: Lightning loggers of the run.
        checkpoint: Where to keep the trial's state, to go on from after a kill; whoever stores the
            result removes it. `None` for no checkpoints.
        checkpoint_seconds: Seconds between checkpoints.

    Returns:
        The result; its status is `diverged`, with a test loss of `nan`, when a training or test
        loss left the finite numbers.

    Raises:
        ValueError: There are fewer training pairs than the trial wants.
    """
    start = time.perf_counter()
    positions = nested_subset(len(data.train), trial.n_samples, trial.seed)
    pl.seed_everything(trial.seed, verbose=False)
    tokenizer = source.load_tokenizer()
    encoder = make_encoder(source, tokenizer, data, settings.prompt)
    encoded = EncodedData(
        encoder.encode([data.train[i] for i in positions]),
        encoder.encode(data.validation),
        encoder.encode(data.test),
    )
    pad = tokenizer.pad_token_id or 0
    collator = Collator(pad, is_encoder_decoder=source.is_encoder_decoder)
    loaders = TrialData(encoded, collator, settings, trial.seed)
    model = (source.finetune or FULL).prepare(source.load_model())
    module = FineTuner(model, make_optimizer, make_scheduler)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        model.compile()
    best = BestWeights()
    callbacks: list[Callback] = [best, EarlyStopping("val_loss", patience=settings.patience)]
    keeper = None if checkpoint is None else Checkpoints(checkpoint, checkpoint_seconds)
    if keeper is not None:
        callbacks.append(keeper)
    n_steps = settings.n_steps(trial.n_samples)
    trainer = make_trainer(
        callbacks=callbacks,
        logger=list(loggers) or False,
        max_epochs=settings.max_epochs,
        val_check_interval=max(1, -(-n_steps // settings.n_evaluations)),
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, min(10, n_steps // settings.max_epochs)),
    )
    # Only the trainer knows how many processes share a batch.
    trainer.accumulate_grad_batches = settings.n_parts(trainer.world_size)
    trainer.val_check_interval *= trainer.accumulate_grad_batches
    metrics = {"test_loss": math.nan, "test_loss_per_byte": math.nan}
    with warnings.catch_warnings():
        # Data are in memory already: workers would cost more than they bring.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*modules in eval mode.*")
        # Checkpoints knows the place in the epoch's order.
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        try:
            if trial.n_samples > 0:
                ready = usable_checkpoint(checkpoint)
                trainer.fit(module, loaders, ckpt_path=ready, weights_only=True)
                if not module.trace or module.trace[-1][0] < trainer.global_step:
                    trainer.validate(module, loaders, verbose=False)  # the last step
                best.restore(module.model)
            measured = trainer.test(module, loaders, verbose=False)[0]
            metrics = {name: float(measured[name]) for name in metrics}
        except DivergedError:
            pass
    finite = math.isfinite(metrics["test_loss"])
    train_flops = (4.0 * n_params + 2.0 * n_trainable) * module.n_train_tokens
    return TrialResult(
        trial,
        "completed" if finite else "diverged",
        **metrics,
        validation_loss=best.loss if math.isfinite(best.loss) else math.nan,
        n_params=n_params,
        n_tokens=module.n_train_tokens,
        n_steps=int(trainer.global_step),
        best_step=best.step,
        flops=train_flops + 2.0 * n_params * module.n_evaluation_tokens,
        train_flops=train_flops,
        seconds=time.perf_counter() - start + (keeper.seconds_before if keeper else 0.0),
        peak_memory_bytes=peak_memory_bytes(),
        family=source.family,
        trace=tuple(module.trace),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def peak_memory_bytes() -> int:
    """Peak memory of the CUDA device where there is one, else of this process since its start."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def describe(make: Callable[..., Any]) -> Mapping[str, Any]:
    """Name and keywords of a `functools.partial`, for the settings of a trial.

    Example:
        >>> from functools import partial
        >>> describe(partial(sorted, reverse=True))
        {'name': 'sorted', 'reverse': True}
    """
    function = getattr(make, "func", make)
    keywords = dict(getattr(make, "keywords", {}))
    return {"name": function.__name__, **{key: _plain(value) for key, value in keywords.items()}}


def _plain(value: Any) -> Any:
    """Lists and scalars as JSON has them."""
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return [_plain(item) for item in value] if isinstance(value, Sequence) else str(value)
