"""FineTune: trials that are run for real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only

from lensllm.data.pairs import TextData
from lensllm.finetune.adapters import FULL, FineTuning
from lensllm.finetune.encoding import Example
from lensllm.finetune.models import ModelSource, as_sources
from lensllm.finetune.trial import (
    TrainingSettings,
    check_targets,
    describe,
    make_encoder,
    run_trial,
)
from lensllm.selection.base import Candidate, Task
from lensllm.trials import Trial, TrialResult, TrialStore

BASE_SIZE = 200
MIN_SIZES = 4


def size_ladder(n_samples_full: int) -> tuple[int, ...]:
    """Sizes that trials can have: 0, then doublings of 200 up to half of `n_samples_full`.

    Where that leaves fewer than four sizes above 0, the ladder starts lower: at 100, 50, 25 or 12.

    Args:
        n_samples_full: Size D_full at which candidates are compared.

    Returns:
        Sizes D, ascending.

    Example:
        >>> size_ladder(1000)
        (0, 50, 100, 200, 400)
    """
    sizes = [BASE_SIZE]
    while sizes[-1] * 2 <= n_samples_full // 2:
        sizes.append(sizes[-1] * 2)
    while sizes[0] > 12 and (len(sizes) < MIN_SIZES or sizes[MIN_SIZES - 1] > n_samples_full // 2):
        sizes.insert(0, sizes[0] // 2)
    return (0, *(size for size in sizes if size <= n_samples_full // 2))


class FineTuneRunner:
    """Fine-tunes candidates, and answers finished trials from a store.

    Args:
        sources: The candidates, see `as_sources`.
        data: The data set.
        make_optimizer: From parameter groups to an optimizer (a `functools.partial`, whose
            keywords become part of the trial).
        make_scheduler: From (optimizer, number of steps) to a schedule (likewise).
        make_trainer: To a Lightning trainer.
        settings: Batch size, epochs and early stopping.
        store: Where finished trials are kept and found.
        make_logger: From (label, config) of a trial to a logger of `lensllm.finetune.loggers`;
            `None` for none.
        n_samples_full: Size D_full at which candidates are compared; all training pairs by default.
        sizes: Sizes that trials can have; `size_ladder(n_samples_full)` by default.
        seed: Seed of the trials of a campaign.
        loss_unit: `token` or `byte`: which loss a campaign compares candidates by.
        finetune: How candidates are fine-tuned that do not say it themselves; in full by default.
        checkpoint_minutes: Minutes of training between checkpoints, from which a killed trial goes
            on; they are in the store's folder until the trial is stored. `None` for none.
        token_cache: Folder in which encoded subsets of memory-mapped data sets are kept; `None`
            for none.

    Raises:
        ValueError: There are fewer training pairs than `n_samples_full`, two candidates share a
            name, or the optimizer rejects its settings.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource | str] | Mapping[str, ModelSource | str],
        data: TextData,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        make_scheduler: Callable[..., Any],
        make_trainer: Callable[..., Any],
        settings: TrainingSettings,
        store: TrialStore,
        make_logger: Callable[..., Any] | None = None,
        n_samples_full: int | None = None,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
        loss_unit: str = "token",
        finetune: FineTuning | None = None,
        checkpoint_minutes: float | None = 10.0,
        token_cache: str | Path | None = None,
    ) -> None:
        if n_samples_full is not None and not 0 < n_samples_full <= len(data.train):
            raise ValueError(
                f"Expected `n_samples_full` between 1 and {len(data.train)}, the training pairs of "
                f"{data.name!r}, got {n_samples_full}"
            )
        if checkpoint_minutes is not None and not checkpoint_minutes >= 0:
            raise ValueError(f"Expected checkpoint_minutes >= 0, got {checkpoint_minutes}")
        if loss_unit not in ("token", "byte"):
            raise ValueError(f"Expected a loss per token or byte, got {loss_unit!r}")
        _check_optimizer(make_optimizer)
        if not sources:
            raise ValueError("Expected at least one candidate in `candidates.models`, got none")
        given = as_sources(sources, finetune or FULL)
        self.sources = {source.name: source for source in given}
        if len(self.sources) != len(given):
            names = [source.name for source in given]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"Expected candidates with names of their own, got {twice!r} twice")
        self.data = data
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        self.make_trainer = make_trainer
        self.settings = settings
        self.store = store
        self.make_logger = make_logger or None  # an empty config group means none
        self.n_samples_full = len(data.train) if n_samples_full is None else n_samples_full
        self.sizes = size_ladder(self.n_samples_full) if sizes is None else tuple(sorted(sizes))
        _check_sizes(self.sizes, self.n_samples_full)
        self.seed = seed
        self.loss_unit = loss_unit
        self.checkpoint_minutes = checkpoint_minutes
        self.token_cache = None if token_cache is None else Path(token_cache)
        self._examples: dict[str, list[list[Example]]] = {}

    @cached_property
    def precision(self) -> str:
        """Lightning's name of the precision that is trained in."""
        return str(getattr(self.make_trainer, "keywords", {}).get("precision", "32-true"))

    def optimizer_of(self, source: ModelSource) -> Callable[..., torch.optim.Optimizer]:
        """The optimizer's factory, with the candidate's own learning rate where it has one."""
        rate = (source.finetune or FULL).learning_rate
        if rate is None:
            return self.make_optimizer
        # A partial of Hydra's own partial would hide its keywords from the trial's key.
        make = getattr(self.make_optimizer, "func", self.make_optimizer)
        return partial(make, **{**getattr(self.make_optimizer, "keywords", {}), "lr": rate})

    def complete(self, trial: Trial) -> Trial:
        """Fill in the settings that decide the outcome; the result's key is the stored one.

        Raises:
            ValueError: The model is no candidate, the data set another one, or there are too few
                training pairs.
        """
        if trial.model not in self.sources:
            raise ValueError(
                f"Expected one of the candidates {', '.join(self.sources)}, got {trial.model!r}"
            )
        if trial.dataset != self.data.name:
            raise ValueError(
                f"Expected a trial on the data set {self.data.name!r}, got {trial.dataset!r}"
            )
        if trial.n_samples > len(self.data.train):
            raise ValueError(
                f"Expected `n_samples` <= {len(self.data.train)}, the training pairs of "
                f"{self.data.name!r}, got {trial.n_samples}"
            )
        source = self.sources[trial.model]
        training = {**self.settings.decisive(), "precision": self.precision}
        decisive: dict[str, Any] = {
            "data": self.data.fingerprint,
            "weights": source.fingerprint,
            "config": source.text_fingerprint,
        }
        if trial.n_samples > 0:
            decisive |= {
                "optimizer": describe(self.optimizer_of(source)),
                "scheduler": describe(self.make_scheduler),
                "training": training,
                **(source.finetune or FULL).settings(),
            }
        else:
            decisive |= {"training": {"prompt": self.settings.prompt}}
        return replace(trial, settings=decisive)

    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result; a campaign by bytes sees loss per byte."""
        full = self.complete(trial)
        result = self.store.get(full)
        if result is None:
            result = self._fine_tune(full)
        if self.loss_unit == "byte":
            return replace(result, test_loss=result.test_loss_per_byte)
        return result

    def _checkpoint(self, trial: Trial) -> Path:
        return self.store.folder / ".unfinished" / f"{trial.key}.ckpt"

    def _fine_tune(self, trial: Trial) -> TrialResult:
        source = self.sources[trial.model]
        label = f"{trial.model}-D{trial.n_samples}-s{trial.seed}"
        logger = None if self.make_logger is None else self.make_logger(label, asdict(trial))
        try:
            result = run_trial(
                trial,
                source,
                self.data,
                self.settings,
                self.optimizer_of(source),
                self.make_scheduler,
                self.make_trainer,
                loggers=[] if logger is None else [logger],
                checkpoint=None if self.checkpoint_minutes is None else self._checkpoint(trial),
                checkpoint_seconds=60.0 * (self.checkpoint_minutes or 0.0),
                token_cache=self.token_cache,
            )
            # Before anything is logged: a tracker that fails must not lose what has finished.
            if rank_zero_only.rank == 0:  # of several processes that train together
                self.store.add(result)
                self._checkpoint(trial).unlink(missing_ok=True)
            if logger is not None:
                logger.log_result(result)
            return result
        finally:
            if logger is not None:
                logger.finish()

    def task(self) -> Task:
        """The question, with the cost of each trial estimated from configs and token counts."""
        return self._task

    @cached_property
    def _task(self) -> Task:
        candidates = tuple(
            Candidate(name, source.n_params, source.family) for name, source in self.sources.items()
        )
        costs = {
            (name, size): self._cost(source, size, tokens)
            for name, source in self.sources.items()
            for tokens in [self._token_counts(name)]
            for size in {*self.sizes, self.n_samples_full}
        }
        available = {
            name: tuple(size for size in self.sizes if size < self.n_samples_full)
            for name in self.sources
        }
        return Task(
            self.data.name, candidates, self.n_samples_full, available, costs, seed=self.seed
        )

    def longest(self, name: str) -> tuple[int, int]:
        """Tokens of a candidate's longest input and longest target, of those that were counted."""
        examples = [example for part in self._encoded(name) for example in part]
        return (
            max(len(example.source) for example in examples),
            max(len(example.target) for example in examples),
        )

    def _encoded(self, name: str, n_pairs: int = 512) -> list[list[Example]]:
        """The first training pairs, and all of the two other splits, encoded for a candidate."""
        if name not in self._examples:
            source, prompt = self.sources[name], self.settings.prompt
            encoder = make_encoder(source, source.load_tokenizer(), self.data, prompt)
            splits = {
                "train": self.data.train[:n_pairs],
                "validation": self.data.validation,
                "test": self.data.test,
            }
            encoded = {split: encoder.encode(pairs) for split, pairs in splits.items()}
            for split, examples in encoded.items():
                check_targets(examples, split, source, self.data)
            self._examples[name] = list(encoded.values())
        return self._examples[name]

    def _token_counts(self, name: str) -> tuple[float, int, int]:
        """Mean tokens a training pair, and tokens of the validation and of the test set."""
        train, validation, test = (
            [example.n_tokens for example in part] for part in self._encoded(name)
        )
        return sum(train) / len(train), sum(validation), sum(test)

    def _cost(self, source: ModelSource, n_samples: int, tokens: tuple[float, int, int]) -> float:
        """FLOPs of one trial that trains for all its epochs: an upper estimate."""
        per_sample, validation, test = tokens
        n_evaluations = self.settings.n_evaluations if n_samples > 0 else 0
        trained = per_sample * n_samples * self.settings.max_epochs
        per_token = 4.0 * source.n_params + 2.0 * source.n_trainable
        evaluated = n_evaluations * validation + test
        return per_token * trained + 2.0 * source.n_params * evaluated


def _check_sizes(sizes: tuple[int, ...], n_samples_full: int) -> None:
    """Sizes of trials, ascending: distinct, and from 0 to `n_samples_full`."""
    for size, following in zip(sizes, (*sizes[1:], None), strict=True):
        if size < 0:
            raise ValueError(f"Expected sizes >= 0, got {size}")
        if size > n_samples_full:
            raise ValueError(f"Expected sizes up to n_samples_full = {n_samples_full}, got {size}")
        if size == following:
            raise ValueError(f"Expected each size once, got {size} twice")


def _check_optimizer(make_optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    """Let the optimizer look at its settings before anything is loaded."""
    try:
        make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError) as error:
        keywords = getattr(make_optimizer, "keywords", {})
        given = ", ".join(f"{key}={value}" for key, value in keywords.items())
        raise ValueError(f"Expected valid settings for optimizer, got {given}: {error}") from error
