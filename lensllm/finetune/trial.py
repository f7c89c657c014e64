"""Runs one trial: fine-tunes a candidate on a subset and measures its test loss."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import re
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from lensllm.core.example_losses import ExampleLosses, in_original_order
from lensllm.core.trials import MAX_LOSS, ErrorCode, Trial, TrialResult
from lensllm.data.pairs import TextData
from lensllm.data.rows import Rows, nested_subset, take
from lensllm.finetune.adapters import FULL
from lensllm.finetune.best_weights import BestWeights
from lensllm.finetune.checkpoint import Checkpoints, checkpointed_micro_batch, usable_checkpoint
from lensllm.finetune.encoding import (
    Collator,
    Example,
    PairEncoder,
    context_length,
)
from lensllm.finetune.failures import code_of, is_out_of_memory
from lensllm.finetune.loading import EncodedData, TrialData
from lensllm.finetune.measuring import Measurer, Measuring
from lensllm.finetune.memory import (
    free_memory,
    largest_micro_batch,
    peak_memory_bytes,
    restart_peak,
)
from lensllm.finetune.models import ModelSource
from lensllm.finetune.module import DivergedError, LanguageModelModule
from lensllm.finetune.probes import probe
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.time_limit import TimedOutError, TimeLimit
from lensllm.finetune.token_cache import encode_once
from lensllm.finetune.training_stats import TrainingStats
from lensllm.finetune.truncation import TruncationSide
from lensllm.system.interrupts import leave_if_ended, saved_first

logger = logging.getLogger(__name__)

_NO_METRICS = {"test_loss": math.nan, "test_loss_per_byte": math.nan}
N_PROBED = 8  # test examples among which `probe` chooses
_PACKAGES = ("lensllm", "torch", "transformers", "pytorch-lightning")
_USUAL_WARNINGS = (
    ".*does not have many workers.*",  # data are in memory: workers would cost more than they bring
    ".*modules in eval mode.*",
    ".*dataloader is not resumable.*",  # `Checkpoints` knows the place in the epoch's order
    ".*sync_dist=True.*",  # the sums are synchronised before they are logged
)


class TrialFailedError(RuntimeError):
    """A trial failed; its cause says why, and `flops` what it had cost until then.

    Args:
        reason: Why, in one line.
        flops: What it had cost.
        error_code: Why, as a code.
    """

    def __init__(self, reason: str, flops: float = 0.0, error_code: ErrorCode = "error") -> None:
        super().__init__(reason, flops, error_code)  # all, so that it can be pickled
        self.reason = reason
        self.flops = flops
        self.error_code = error_code

    def __str__(self) -> str:
        return self.reason


class NoMemoryError(RuntimeError):
    """Memory ran out in training steps (`micro_batch_size`) or in evaluations.

    Args:
        reason: The error in one line.
        setting: Name of the setting to halve.
        size: Its value, in examples at once.
        flops: What the trial had cost.
    """

    def __init__(self, reason: str, setting: str, size: int, flops: float) -> None:
        super().__init__(reason, setting, size, flops)
        self.reason = reason
        self.setting = setting
        self.size = size
        self.flops = flops


def reason_of(error: BaseException) -> str:
    r"""What happened, in one line of at most 500 characters.

    Example:
        >>> reason_of(IndexError("index out of range\n in self"))
        'IndexError: index out of range in self'
    """
    text = re.sub(r"\s+", " ", str(error)).strip()
    plain = isinstance(error, ValueError | TrialFailedError) and text
    text = text if plain else f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= 500 else f"{text[:497]}..."


def make_encoder(
    source: ModelSource,
    tokenizer: Any,
    data: TextData,
    prompt: str,
    truncation_side: TruncationSide = "right",
) -> PairEncoder:
    """The encoder of text pairs for one model and data set."""
    return PairEncoder(
        tokenizer,
        is_encoder_decoder=source.is_encoder_decoder,
        max_input_tokens=data.max_input_tokens,
        max_target_tokens=data.max_target_tokens,
        context=context_length(source.config),
        prompt=prompt,
        truncation_side=truncation_side,
    )


def encode_splits(
    trial: Trial,
    source: ModelSource,
    data: TextData,
    encoder: PairEncoder,
    token_cache: Path | None,
    n_validation: int | None = None,
) -> EncodedData:
    """The trial's subset and the two other splits, encoded; large data sets once and on disk.

    Raises:
        ValueError: There are fewer training pairs than the trial wants, or a split has no pair
            whose target has a token.
    """
    subset = take(data.train, nested_subset(len(data.train), trial.n_samples, trial.seed))
    train: Sequence[Example]
    if isinstance(subset, Rows) and token_cache is not None and trial.n_samples > 0:
        key = {
            "data": data.fingerprint,
            "tokenizer": source.text_fingerprint,
            "encoding": encoder.signature(),
            "n_samples": trial.n_samples,
            "seed": trial.seed,
        }
        train = encode_once(encoder, subset, token_cache, key)
    else:
        train = encoder.encode(list(subset))
    encoded = EncodedData(
        train,
        encoder.encode(list(data.validation[:n_validation])),
        encoder.encode(list(data.test)),
        encoder.counts,
    )
    for split in ("train", "validation", "test") if trial.n_samples else ("validation", "test"):
        check_targets(getattr(encoded, split), split, source, data)
        check_ids(getattr(encoded, split), source)
    if encoder.counts.dropped:
        logger.warning(
            "Dropped %d of %d pairs of %s for %s: their targets have no token%s",
            encoder.counts.dropped,
            encoder.counts.pairs,
            data.name,
            source.name,
            ", or they are too long" if encoder.truncation_side == "drop" else "",
        )
    return encoded


def check_targets(
    examples: Sequence[Example], split: str, source: ModelSource, data: TextData
) -> None:
    """Raise a ValueError where every pair of a split was dropped."""
    if not examples:
        raise ValueError(
            f"Expected {split} targets with at least one token for {source.name} on "
            f"{data.name!r}, got none: look at the data set's fields, whose targets are empty"
        )


def check_ids(examples: Sequence[Example], source: ModelSource) -> None:
    """Raise a ValueError where a token has no row in the model's embedding."""
    size = source.vocab_size
    largest = max((max(max(e.source), max(e.target)) for e in examples), default=0)
    if largest >= size:
        raise ValueError(
            f"Expected a tokenizer of at most {size} tokens for {source.name}, whose embedding has "
            f"so many rows; its tokenizer gives the id {largest}: save the model with the "
            "tokenizer that it was trained with, or after `model.resize_token_embeddings`"
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
    token_cache: Path | None = None,
    keep: Callable[[Any, Any], object] | None = None,
    measuring: Measuring | None = None,
    time_limit: float | None = None,
) -> TrialResult:
    """Fine-tune on the trial's subset, with early stopping, and measure the test loss.

    Args:
        trial: Which subset and seed; D = 0 measures the pre-trained model as it is.
        source: The candidate.
        data: The data set.
        settings: Batch size, epochs and early stopping.
        make_optimizer: Makes an optimizer from parameter groups.
        make_scheduler: Makes a schedule from (optimizer, number of steps).
        make_trainer: Makes a Lightning trainer from callbacks, loggers and limits.
        loggers: Lightning loggers of the run.
        checkpoint: Where to keep the trial's state, to resume from after a kill; whoever stores the
            result removes it. `None` for no checkpoints.
        checkpoint_seconds: Seconds between checkpoints.
        token_cache: Folder in which encoded subsets of memory-mapped data sets are kept; `None` to
            encode them in every trial.
        keep: Called with the fine-tuned model and its tokenizer when the trial has completed.
        measuring: Measures of the model's answers beside its losses; `None` for none.
        time_limit: Seconds after which the trial is ended; `None` for no limit.

    Returns:
        The result; its status is `diverged`, with a test loss of `nan`, when a training or test
        loss became infinite or NaN, or ended above `MAX_LOSS`; `timed_out`, likewise, when it was
        ended at the limit.

    Raises:
        ValueError: There are fewer training pairs than the trial wants, or the candidate cannot be
            loaded.
        TrialFailedError: Training or evaluation failed.
    """
    while True:
        try:
            return _run_once(
                trial,
                source,
                data,
                settings,
                make_optimizer,
                make_scheduler,
                make_trainer,
                loggers,
                checkpoint,
                checkpoint_seconds,
                token_cache,
                keep,
                measuring,
                time_limit,
            )
        except NoMemoryError as error:
            settings = _halved(settings, source, error)
            if error.setting == "micro_batch_size" and checkpoint is not None:
                checkpoint.unlink(missing_ok=True)  # its place is counted in larger micro-batches
            torch.cuda.empty_cache()


def _halved(
    settings: TrainingSettings, source: ModelSource, error: NoMemoryError
) -> TrainingSettings:
    """Settings with half the micro-batch, or half the batch of evaluations.

    The batch size, which decides the outcome, is kept.

    Raises:
        TrialFailedError: It was one example already.
    """
    if error.size == 1:
        raise TrialFailedError(
            f"Expected room for {source.name} with one example at once, got: {error.reason}; take "
            "finetune=lora, training.gradient_checkpointing=true or shorter inputs",
            error.flops,
            "out_of_memory",
        ) from error
    logger.warning("Out of memory with %d examples of %s at once: halved", error.size, source.name)
    changes: dict[str, Any] = {error.setting: error.size // 2}
    return replace(settings, **changes)


def _no_memory(
    error: Exception, settings: TrainingSettings, is_training: bool, flops: float
) -> NoMemoryError:
    """The error with the setting to halve."""
    if not is_training:
        size = settings.evaluation_batch_size
        return NoMemoryError(reason_of(error), "evaluation_batch_size", size, flops)
    micro = settings.micro_batch_size
    size = micro if isinstance(micro, int) else settings.batch_size
    return NoMemoryError(reason_of(error), "micro_batch_size", size, flops)


def _run_once(
    trial: Trial,
    source: ModelSource,
    data: TextData,
    settings: TrainingSettings,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    make_scheduler: Callable[..., Any],
    make_trainer: Callable[..., pl.Trainer],
    loggers: Sequence[Any],
    checkpoint: Path | None,
    checkpoint_seconds: float,
    token_cache: Path | None,
    keep: Callable[[Any, Any], object] | None,
    measuring: Measuring | None,
    time_limit: float | None,
) -> TrialResult:
    """One attempt at `run_trial`, with the same arguments."""
    start = time.perf_counter()
    limits = [] if time_limit is None else [TimeLimit(time_limit)]
    restart_peak()
    tokenizer = source.load_tokenizer()
    encoder = make_encoder(source, tokenizer, data, settings.prompt, settings.truncation_side)
    n_evaluations, n_validation = settings.validation(trial.n_samples, len(data.validation))
    encoded = encode_splits(trial, source, data, encoder, token_cache, n_validation)
    best = BestWeights()
    # Under FSDP every process has weights of its own, of which a checkpoint would hold one's.
    if "fsdp" in str(getattr(make_trainer, "keywords", {}).get("strategy", "")):
        checkpoint = None
    keeper = None
    if checkpoint is not None:
        keeper = Checkpoints(checkpoint, checkpoint_seconds, trial.key)
    stopping = EarlyStopping("val_loss", patience=settings.patience)
    callbacks: list[Callback] = [best, stopping, *limits]
    if loggers:
        callbacks.append(TrainingStats(source.flops_per_token))
    n_steps = settings.n_steps(trial.n_samples)
    trainer = make_trainer(
        callbacks=callbacks if keeper is None else [*callbacks, keeper],
        logger=list(loggers) or False,
        max_epochs=settings.max_epochs,
        val_check_interval=max(1, -(-n_steps // n_evaluations)),
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        # A folder that does not exist: Lightning would resume from anybody's `hpc_ckpt_*.ckpt`
        # there.
        default_root_dir=Path(tempfile.gettempdir()) / f"lensllm-{uuid.uuid4().hex}",
        log_every_n_steps=max(1, min(10, n_steps // settings.max_epochs)),
    )
    usable = usable_checkpoint(checkpoint, trial.key)
    settings = _with_micro_batch(settings, source, encoded, trainer, usable)
    pl.seed_everything(trial.seed, verbose=False)
    model = prepare_model(source, settings)
    pad = source.padding(tokenizer.pad_token_id)
    padding = probe(model, source, encoded.test[:N_PROBED], pad)
    if padding == "none":
        settings = replace(settings, micro_batch_size=1, evaluation_batch_size=1)
    if keeper is not None:
        keeper.micro_batch_size = settings.micro_batch_size  # type: ignore[assignment]
    if settings.compile:
        model.compile()
    # Only the trainer knows how many processes share a batch.
    trainer.accumulate_grad_batches = settings.n_parts(trainer.world_size)
    trainer.val_check_interval *= trainer.accumulate_grad_batches
    module = LanguageModelModule(model, make_optimizer, make_scheduler)
    collator = Collator(pad, is_encoder_decoder=source.is_encoder_decoder, padding=padding)
    loaders = TrialData(encoded, collator, settings, trial.seed)
    measurer = None
    if measuring is not None:
        pairs = measuring.test_pairs(trial.n_samples, data, settings)
        longest = max(len(example.target) for example in encoded.test)
        batch_size = settings.evaluation_batch_size
        measurer = Measurer(measuring, pairs, encoder, collator, batch_size, longest)
        trainer.callbacks.append(measurer)
    # By shapes, not by tensors in memory: four-bit weights are packed, FSDP's are sharded.
    per_trained, per_evaluated = source.flops_per_token

    def flops_of_training() -> float:
        return per_trained * module.n_train_tokens

    is_over, loaded = False, time.perf_counter()
    try:
        metrics = _fit_and_test(trainer, module, loaders, best, usable)
    except TimedOutError:
        is_over, metrics = True, _NO_METRICS
    except Exception as error:
        leave_if_ended()  # the error is a consequence of the signal
        spent = flops_of_training() + per_evaluated * module.n_evaluation_tokens
        if is_out_of_memory(error):
            raise _no_memory(error, settings, module.model.training, spent) from None
        if not spent and isinstance(error, ValueError):
            raise  # an error found before compute was spent
        raise TrialFailedError(reason_of(error), spent, code_of(error)) from error
    before = keeper.seconds_before if keeper else 0.0
    compute_seconds = time.perf_counter() - loaded + before
    train_flops = flops_of_training()
    examples = _test_examples(module, encoded, trainer.world_size)
    by_byte = None if examples is None else examples.per_byte()
    is_usable = metrics["test_loss"] <= MAX_LOSS  # false for nan
    if keep is not None and is_usable and trainer.is_global_zero:
        keep(module.model, tokenizer)
    return TrialResult(
        trial,
        "completed" if is_usable else "timed_out" if is_over else "diverged",
        test_loss=metrics["test_loss"] if is_usable else math.nan,
        test_loss_per_byte=metrics["test_loss_per_byte"] if is_usable else math.nan,
        test_loss_se=math.nan if examples is None else examples.standard_error(),
        test_loss_per_byte_se=math.nan if by_byte is None else by_byte.standard_error(),
        examples={} if examples is None else examples.to_json(),
        measures=measurer.values if measurer is not None and is_usable else {},
        validation_loss=best.loss if math.isfinite(best.loss) else math.nan,
        n_params=source.n_params,
        n_tokens=module.n_train_tokens,
        n_steps=int(trainer.global_step),
        best_step=best.step,
        flops=train_flops + per_evaluated * module.n_evaluation_tokens,
        train_flops=train_flops,
        seconds=time.perf_counter() - start + before,
        compute_seconds=compute_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        family=source.family,
        cut_inputs=encoded.counts.cut_inputs,
        cut_targets=encoded.counts.cut_targets,
        dropped_pairs=encoded.counts.dropped,
        data={
            **data.summary(),
            "validation_pairs": n_validation,
            "evaluations": n_evaluations,
            "padding": padding,
            "micro_batch_size": settings.micro_batch_size,
            "evaluation_batch_size": settings.evaluation_batch_size,
            "lost_target_bytes": encoded.counts.lost_share,
        },
        trace=tuple(module.trace),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _fit_and_test(
    trainer: pl.Trainer,
    module: LanguageModelModule,
    loaders: TrialData,
    best: BestWeights,
    checkpoint: Path | None,
) -> dict[str, float]:
    """Train where there is something to train on, and measure; `nan` where it diverged."""
    with warnings.catch_warnings():
        for message in _USUAL_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        try:
            if loaders.encoded.train:
                with saved_first(any(isinstance(c, Checkpoints) for c in trainer.callbacks)):
                    trainer.fit(module, loaders, ckpt_path=checkpoint, weights_only=True)
                if not module.trace or module.trace[-1][0] < trainer.global_step:
                    trainer.validate(module, loaders, verbose=False)  # the last step
                best.restore(module.model)
            measured = trainer.test(module, loaders, verbose=False)[0]
        except DivergedError:
            return _NO_METRICS
    return {name: float(measured[name]) for name in ("test_loss", "test_loss_per_byte")}


def _test_examples(
    module: LanguageModelModule, encoded: EncodedData, world_size: int
) -> ExampleLosses | None:
    """Losses of the test examples in their order; `None` where not all were measured here."""
    if world_size > 1 or len(module.test_examples) != len(encoded.test):
        return None
    lengths = [example.n_tokens for example in encoded.test]
    columns = zip(*module.test_examples, strict=True)
    return ExampleLosses(*(in_original_order(column, lengths) for column in columns))


def prepare_model(source: ModelSource, settings: TrainingSettings) -> Any:
    """The candidate's weights, with adapters and what saves memory."""
    model = (source.finetune or FULL).prepare(source.load_model())
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _with_micro_batch(
    settings: TrainingSettings,
    source: ModelSource,
    encoded: EncodedData,
    trainer: pl.Trainer,
    checkpoint: Path | None,
) -> TrainingSettings:
    """Settings with a number in place of `auto`: as many examples as memory allows.

    A trial that goes on from a checkpoint keeps its micro-batches, whatever memory is free now.
    """
    before = "unknown" if checkpoint is None else checkpointed_micro_batch(checkpoint)
    if before != "unknown":
        return replace(settings, micro_batch_size=before)
    if settings.micro_batch_size != "auto":
        return settings
    if not encoded.train:
        return replace(settings, micro_batch_size=None)
    micro = largest_micro_batch(
        source,
        -(-settings.batch_size // trainer.world_size),
        max(len(example.source) for example in encoded.train),
        max(len(example.target) for example in encoded.train),
        free_memory(),
        precision=str(trainer.precision),
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    return replace(settings, micro_batch_size=micro)
