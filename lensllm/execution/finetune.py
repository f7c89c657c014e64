"""FineTune: trials that are run by fine-tuning."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only

from lensllm.core.example_losses import ExampleLosses
from lensllm.core.limits import Limits
from lensllm.core.measures import LOSS_PER_BYTE, Measure, measure_named
from lensllm.core.task import Candidate, NoCandidateError, Task, size_ladder
from lensllm.core.trials import Trial, TrialResult, TrialStore, digest_of
from lensllm.data.pairs import TextData
from lensllm.execution.stored import StoredRunner
from lensllm.finetune.adapters import FULL, AdapterConfig
from lensllm.finetune.callbacks import (
    MakeCallback,
    WithCallbacks,
    as_callbacks,
    callback_settings,
)
from lensllm.finetune.candidates import Given, as_sources
from lensllm.finetune.encoding import Example, PairEncoder
from lensllm.finetune.estimate import Sharing, memory_refusal
from lensllm.finetune.failures import code_of
from lensllm.finetune.hub import UnknownModelError
from lensllm.finetune.inference import inference_memory_gb, licences_of, measure_latency
from lensllm.finetune.inspection import (
    USUAL_WEIGHT,
    TokenCounts,
    check_lost,
    count_tokens,
    first_lost_weight,
    measure_pairs,
)
from lensllm.finetune.kept_weights import KeptWeights
from lensllm.finetune.measuring import (
    Measuring,
    MeasuringSettings,
    classes_of,
    closed_labels,
)
from lensllm.finetune.model_folder import check_free, write_model_folder
from lensllm.finetune.models import ModelSource
from lensllm.finetune.tracked_trial import trial_config, trial_label, trial_tags
from lensllm.finetune.trackers import MakeLogger, TrackerError, Trackers, as_makers
from lensllm.finetune.trial import (
    TrainingSettings,
    TrialFailedError,
    make_encoder,
    reason_of,
    run_trial,
)
from lensllm.finetune.trial_keys import (
    check_trainer,
    describe,
    device_of,
    environment,
    trainer_settings,
)
from lensllm.finetune.truncation import say_shares
from lensllm.system.atomic import StorageError, full_disk, is_full, write_whole
from lensllm.system.quiet import quiet_libraries

logger = logging.getLogger(__name__)


class FineTuneRunner(StoredRunner):
    """Fine-tunes candidates, and returns finished trials from a store.

    Args:
        sources: The candidates, see `as_sources`.
        data: The data set.
        make_optimizer: Makes an optimizer from parameter groups (a `functools.partial`, whose
            keywords become part of the trial).
        make_scheduler: Makes a schedule from (optimizer, number of steps) (likewise).
        make_trainer: Makes a Lightning trainer.
        settings: Batch size, epochs and early stopping.
        store: Where finished trials are kept and found.
        make_logger: Makes loggers of `lensllm.finetune.loggers`, see `as_makers`; none by default.
        log_stored: Whether a trial that is read from the store gets a run of the trackers too, so
            that a sweep's table is complete.
        n_samples_full: Size D_full at which candidates are compared; all training pairs by default.
        sizes: Sizes that trials can have; `size_ladder(n_samples_full)` by default.
        seed: Seed of the trials of a campaign.
        measure: The measure by which candidates are compared, see `measure_named`; with `loss`,
            candidates whose tokens differ are compared by loss per byte.
        measuring: How the answers of models are measured, for measures that are no losses.
        finetune: How to fine-tune candidates that do not set it themselves; in full by default.
        checkpoint_minutes: Minutes of training between checkpoints, from which a killed trial
            resumes; they are in the store's folder until the trial is stored. `None` for none.
        token_cache: Folder in which encoded subsets of memory-mapped data sets are kept; `None`
            for none.
        trial_time_limit: See `StoredRunner`; the full fine-tuning of `keep` has no limit.
        make_callbacks: By name, makers of Lightning callbacks that are added to every trial's own.
        limits: Limits of size, memory, latency and licence; candidates over them are left out.
        keep_weights: Whether trials leave their weights as model folders, see `KeptWeights`;
            `all` also runs finished trials again whose weights were not kept.
        max_weights_gb: Most gigabytes (10⁹ bytes) that these folders may take together; by default
            nine tenths of what is free.

    Attributes:
        failures: Candidates that cannot be run, with the reason; see `inspect`.
        failure_codes: The same reasons as codes.

    Raises:
        ValueError: There are fewer training pairs than `n_samples_full`, two candidates share a
            name, or optimizer, schedule or trainer reject a setting, or a trial's key cannot hold
            it.
    """

    def __init__(
        self,
        sources: Sequence[Given] | Mapping[str, Given],
        data: TextData,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        make_scheduler: Callable[..., Any],
        make_trainer: Callable[..., Any],
        settings: TrainingSettings,
        store: TrialStore,
        make_logger: MakeLogger | Mapping[str, MakeLogger] | None = None,
        n_samples_full: int | None = None,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
        measure: str | Mapping[str, Any] | Measure = "loss",
        measuring: MeasuringSettings | None = None,
        finetune: AdapterConfig | None = None,
        checkpoint_minutes: float | None = 10.0,
        token_cache: str | Path | None = None,
        trial_time_limit: float | str | None = None,
        make_callbacks: Mapping[str, MakeCallback] | None = None,
        limits: Limits | None = None,
        keep_weights: bool | str = False,
        max_weights_gb: float | None = None,
        log_stored: bool = False,
    ) -> None:
        quiet_libraries()
        if checkpoint_minutes is not None and not 0 <= checkpoint_minutes < math.inf:
            raise ValueError(
                "Expected runner.checkpoint_minutes >= 0 (null for no checkpoints), got "
                f"{checkpoint_minutes}"
            )
        _check_optimizer(make_optimizer)
        check_trainer(make_trainer)
        _check_scheduler(make_scheduler)
        given = as_sources(sources, finetune or FULL)
        super().__init__(given, data, store, n_samples_full, sizes, seed, trial_time_limit)
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        callbacks = as_callbacks(make_callbacks)
        self.make_trainer = WithCallbacks(make_trainer, callbacks) if callbacks else make_trainer
        self._plain_trainer = make_trainer
        self._callback_settings = callback_settings(callbacks)
        self.settings = settings
        self.make_loggers = as_makers(make_logger)
        self.log_stored = log_stored
        self.asked_measure = measure_named(measure)
        self.measuring = Measuring.of(self.asked_measure, measuring or MeasuringSettings(), data)
        if self.measuring is not None and _is_sharded(make_trainer):
            raise ValueError(
                f"Expected measure=loss or loss_per_byte with trainer=fsdp, got "
                f"{self.asked_measure.name}: models whose weights are sharded answer nothing here"
            )
        self.checkpoint_minutes = checkpoint_minutes
        self.token_cache = None if token_cache is None else Path(token_cache)
        self.limits = limits or Limits()
        self.weights = KeptWeights(store.folder / "weights", keep_weights, max_weights_gb)
        if self.weights.keeps:
            self._check_whole()
        self.failures: dict[str, str] = {}
        self.failure_codes: dict[str, str] = {}
        self._latencies: dict[tuple[str, str], float] = {}
        self._encoders: dict[str, PairEncoder] = {}
        self._token_counts: dict[str, TokenCounts] = {}
        self._losses_before: dict[str, float] = {}
        self._spelled: set[str] = set()

    @cached_property
    def precision(self) -> str:
        """Lightning's name of the training precision."""
        return str(getattr(self.make_trainer, "keywords", {}).get("precision", "32-true"))

    @cached_property
    def measure(self) -> Measure:
        """The measure by which candidates are compared, as asked, but per byte if tokens differ.

        A loss per token is the sum over a target divided by its number of tokens, so the losses of
        candidates that split a target into different numbers of tokens are not comparable.
        """
        if self.asked_measure.per != "token" or len(self.sources) == 1:
            return self.asked_measure
        lengths: dict[tuple[int, ...], str] = {}
        for name in self.sources:
            self._note_failure(self._counts, name)
            if name not in self.failures:
                lengths.setdefault(self._counts(name).targets, name)
        if len(lengths) < 2:
            return self.asked_measure
        (one, first), (other, second) = list(lengths.items())[:2]
        logger.warning(
            "Candidates are ranked by loss per byte in place of per token: their tokens differ (%s "
            "has %d in the test targets, %s %d)",
            *(first, sum(one), second, sum(other)),
        )
        return LOSS_PER_BYTE

    def data_summary(self) -> dict[str, Any]:
        """Summary of the data set: classes, if any, and target bytes that candidates lack."""
        labels = closed_labels(self.data) if self.measuring is None else self.measuring.labels
        classes = {} if labels is None else {"classes": classes_of(labels, self.data)}
        lost = {name: encoder.counts.lost_share for name, encoder in self._encoders.items()}
        lost = {name: share for name, share in lost.items() if share > 0}
        own = {"lost_target_bytes": lost} if lost else {}
        return {**self.data.summary(), **classes, **own}

    def optimizer_of(self, source: ModelSource) -> Callable[..., torch.optim.Optimizer]:
        """The optimizer's factory, with the candidate's own learning rate where it has one."""
        rate = (source.finetune or FULL).learning_rate
        if rate is None:
            return self.make_optimizer
        # A partial of Hydra's own partial would hide its keywords from the trial's key.
        make = getattr(self.make_optimizer, "func", self.make_optimizer)
        return partial(make, **{**getattr(self.make_optimizer, "keywords", {}), "lr": rate})

    def complete(self, trial: Trial) -> Trial:
        """Fill in the settings that determine the outcome and so the trial's key in the store.

        Raises:
            ValueError: The model is not a candidate, the data set is another one, there are too few
                training pairs, or the candidate's files or tokenizer cannot be used.
        """
        self._check(trial)
        source = self.sources[trial.model]
        method = source.finetune or FULL
        decisive: dict[str, Any] = {
            "data": self.data.fingerprint,
            "weights": source.fingerprint,
            "config": source.text_fingerprint,
            "dtype": source.dtype,
            "encoding": digest_of(self._encoder(trial.model).signature()),
            "training": self.settings.decisive(trial.n_samples),
            "trainer": trainer_settings(self._plain_trainer, trial.n_samples),
            "device": device_of(self.make_trainer),
            "environment": environment(method),
            **method.settings(),
        }
        if self._callback_settings:
            decisive["callbacks"] = self._callback_settings
        if self.measuring is not None:  # else the keys of trials with losses alone would change
            decisive["measuring"] = self.measuring.decisive()
        if trial.n_samples > 0:
            decisive |= {
                "optimizer": describe(self.optimizer_of(source), "optimizer"),
                "scheduler": describe(self.make_scheduler, "scheduler"),
            }
        return replace(trial, settings=decisive)

    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result.

        If a candidate cannot be loaded, trained or measured, the result has the status `failed` and
        the reason. While another campaign on the same store runs the trial, this waits.

        Raises:
            ValueError: The trial is not one of this runner's.
            StorageError: Its result, or a file that it needs, cannot be written.
            TrackerError: The experiment tracker could not be started.
        """
        self._check(trial)
        try:
            result = self.attempt(trial)
        except (StorageError, TrackerError):
            raise
        except Exception as error:
            logger.debug("%s at D = %d failed", trial.model, trial.n_samples, exc_info=True)
            flops, code = 0.0, code_of(error)
            if isinstance(error, TrialFailedError):
                flops, code = error.flops, error.error_code
            return TrialResult.failure(trial, reason_of(error), flops, code)
        return _with_errors(result)

    def attempt(self, trial: Trial) -> TrialResult:
        """The same as `run`, but a candidate that cannot be run raises its error.

        Raises:
            Exception: Any error of the candidate, its files or its training.
            StorageError: The result, or a file that the trial needs, cannot be written.
        """
        try:
            return self._stored_or_new(self.complete(trial))
        except StorageError:
            raise
        except Exception as error:
            if (words := full_disk(error, trial.model)) is not None:
                raise StorageError(words) from error
            raise

    def _stored_or_new(self, trial: Trial) -> TrialResult:
        """See `StoredRunner`; processes that train a trial together all run it."""
        stored = self.stored(trial)
        if stored is not None:
            if self.log_stored and rank_zero_only.rank == 0:
                self._log_stored(stored)
            return stored
        if rank_zero_only.rank > 0 or "LOCAL_RANK" in os.environ:
            return self._run_new(trial)
        return super()._stored_or_new(trial)

    def _log_stored(self, result: TrialResult) -> None:
        """A run of the trackers for a trial that was run before, with its validation losses."""
        trackers = self._trackers(result.trial, "stored")
        for step, loss in result.trace:
            trackers.log_metrics({"val_loss": loss}, step)
        trackers.log_result(result)
        trackers.finish()

    def _checkpoint(self, trial: Trial) -> Path:
        return self.store.folder / ".unfinished" / f"{trial.key}.ckpt"

    def saved_at(self, trial: Trial) -> float | None:
        """When the checkpoint of a trial was written; `None` if there is none."""
        try:
            return self._checkpoint(self.complete(trial)).stat().st_mtime
        except OSError:
            return None

    def keep(self, trial: Trial, folder: Path, merge: bool = False) -> TrialResult:
        """Run a trial and keep its weights on disk, even if the store has its result.

        Args:
            trial: The trial.
            folder: Folder for the model; see `lensllm.finetune.model_folder`.
            merge: Whether adapters are merged into the weights.

        Raises:
            ValueError: The trial is not one of this runner's, its weights are sharded (FSDP), or
                the folder is not a new one.
            StorageError: The folder cannot be written.
        """
        check_free(folder)
        self._check_whole()
        source = self.sources[trial.model]
        return self._run_new(
            self.complete(trial),
            lambda model, tokenizer: write_model_folder(folder, model, tokenizer, source, merge),
        )

    def _check_whole(self) -> None:
        """Refuse a strategy under which no process has a model's whole weights."""
        if _is_sharded(self._plain_trainer):
            raise ValueError("Expected trainer=gpu or ddp to keep a model's weights, got fsdp")

    def stored(self, trial: Trial) -> TrialResult | None:
        """The stored result, unless the trial is to run again for its weights."""
        stored = super().stored(trial)
        again = stored is not None and stored.status == "completed" and self.weights.lacks(trial)
        return None if again else stored

    def _run_new(
        self, trial: Trial, keep: Callable[[Any, Any], object] | None = None
    ) -> TrialResult:
        source = self.sources[trial.model]
        if keep is None and self.weights.keeps:
            keep = partial(self.weights.write, trial, source)
        trackers = self._trackers(trial)
        result: TrialResult | None = None
        try:
            result = run_trial(
                trial,
                source,
                self.data,
                self.settings,
                self.optimizer_of(source),
                self.make_scheduler,
                self.make_trainer,
                loggers=trackers.loggers,
                checkpoint=None if self.checkpoint_minutes is None else self._checkpoint(trial),
                checkpoint_seconds=60.0 * (self.checkpoint_minutes or 0.0),
                token_cache=self.token_cache,
                keep=keep,
                measuring=self.measuring,
                time_limit=self.time_left if keep is None else None,
            )
            # Before anything is logged: a failing tracker must not lose a finished trial.
            if rank_zero_only.rank == 0:  # of several processes that train together
                self._store_result(result)
            return result
        finally:
            if result is not None:
                trackers.log_result(result)
            trackers.finish(succeeded=result is not None)

    def _store_result(self, result: TrialResult) -> None:
        """Store a result, in the place of its checkpoint where a disk has no other.

        Raises:
            StorageError: It cannot be written.
        """
        checkpoint = self._checkpoint(result.trial)
        try:
            self.store.add(result)
        except StorageError as error:
            if not (is_full(error) and checkpoint.is_file()):
                raise
            checkpoint.unlink()  # thousands of times the size of the result, of no use after it
            self.store.add(result)
        if result.status != "timed_out":  # from whose checkpoint a longer one goes on
            checkpoint.unlink(missing_ok=True)

    def _trackers(self, trial: Trial, *tags: str) -> Trackers:
        """The experiment trackers of a trial."""
        if not self.make_loggers:
            return Trackers()
        source = self.sources[trial.model]
        config = trial_config(trial, source, self.data.summary())
        tags = (*trial_tags(trial, source), *tags)
        return Trackers.begin(self.make_loggers, trial_label(trial), config, tags=tags)

    def inspect(self, n_processes: int = 1, n_gpus: int = 1) -> dict[str, str]:
        """Check for every candidate, before anything is spent, that it can be loaded and measured.

        The checks are of files and tokenizer, the tokens of the counted pairs, memory, and the loss
        of a few test pairs on the CPU, which is stored and not measured again.

        Args:
            n_processes: Processes that share this machine's main memory.
            n_gpus: GPUs that these processes use in turn, if they use any.

        Returns:
            Candidates that cannot be run, with the reason; `task` leaves them out.

        Raises:
            StorageError: The store cannot be written.
            UnknownModelError: No model has the name of a candidate.
        """
        self.store.check_writable()
        sharing = Sharing(n_processes, n_gpus)
        inspect = partial(self._inspect, sharing=sharing)
        for look in (self._counts, self._candidate, inspect):
            for name in self.sources:
                self._note_failure(look, name)
        self._check_disk()
        return self.failures

    def _note_failure(self, look: Callable[[str], Any], name: str) -> None:
        """Check a candidate, and record why it cannot be run unless that is recorded already."""
        if name in self.failures:
            return
        try:
            look(name)
        except (StorageError, UnknownModelError):
            raise
        except Exception as error:
            if (words := full_disk(error, name)) is not None:
                raise StorageError(words) from error
            self.failures[name] = reason_of(error)
            self.failure_codes[name] = code_of(error)

    def _inspect(self, name: str, sharing: Sharing) -> None:
        """Raise an error if a candidate cannot be run."""
        source, counts = self.sources[name], self._counts(name)
        tokenizer = self._encoder(name).tokenizer
        if tokenizer.eos_token_id is None:
            logger.warning("%s has no end token: its targets are scored without one", name)
        self._check_lost(name)
        self._say_rounding(source)
        refusal = memory_refusal(source, counts.longest, self.settings, self.precision, sharing)
        if refusal:
            raise ValueError(refusal)
        settings = self.complete(Trial(name, self.data.name, 0)).settings
        if (source.finetune or FULL).method == "qlora":
            return  # four-bit weights need a device of their own
        note = self.store.folder / ".inspected" / digest_of([settings, self.measure.per])
        try:
            loss = float(note.read_text(encoding="ascii"))
        except (OSError, ValueError):
            loss = measure_pairs(source, tokenizer.pad_token_id, counts.sample, self.measure.per)
            write_whole(note, f"{loss!r}\n")
        self._losses_before[name] = loss

    def _check_lost(self, name: str) -> None:
        """Warn once, or raise, about the share of the targets that a candidate cannot encode."""
        if name not in self._spelled:
            check_lost(self._encoder(name), name, self.measure.per)
            self._spelled.add(name)

    def _say_rounding(self, source: ModelSource) -> None:
        """Warn if weights in half precision are too coarse for the learning rate."""
        is_true = self.precision in ("bf16-true", "16-true")
        if not ((source.finetune or FULL).is_full or is_true):
            return  # adapters are in float32
        dtype = getattr(torch, source.dtype)
        if is_true:
            dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float16
        rate = getattr(self.optimizer_of(source), "keywords", {}).get("lr")
        if dtype.itemsize > 2 or not isinstance(rate, float):
            return
        first = first_lost_weight(dtype, rate)
        if first < USUAL_WEIGHT:
            logger.warning(
                "%s: its weights are trained in %s, which rounds updates of about the learning "
                "rate %g away on all weights above %.2g; `dtype` float32 with "
                "trainer.precision=bf16-mixed keeps them",
                *(source.name, str(dtype).removeprefix("torch."), rate, first),
            )

    def _check_disk(self) -> None:
        """Warn if a checkpoint of the largest candidate would not fit on the store's disk."""
        sources = [source for name, source in self.sources.items() if name not in self.failures]
        if self.checkpoint_minutes is None or not sources:
            return
        # Weights, the optimizer's two moments, and the best weights so far.
        needed = 16.0 * max(source.n_trainable for source in sources)
        free = shutil.disk_usage(self.store.folder).free
        if needed > free:
            logger.warning(
                "Checkpoints take up to %.1f GB, and %s has %.1f GB left: a trial that is killed "
                "will start anew. Free some, or set paths.store_dir or "
                "runner.checkpoint_minutes=null",
                needed / 1e9,
                self.store.folder,
                free / 1e9,
            )

    def task(self) -> Task:
        """The selection task, with upper bounds on costs from model configs and token counts.

        Candidates that cannot be run are left out, and are in `failures`.

        Raises:
            NoCandidateError: No candidate can be run; with all reasons.
            UnknownModelError: No model has the name of a candidate.
        """
        return self._task

    @cached_property
    def _task(self) -> Task:
        candidates: list[Candidate] = []
        costs: dict[tuple[str, int], float] = {}
        available: dict[str, tuple[int, ...]] = {}
        sizes = tuple(size for size in self.sizes if size < self.n_samples_full)
        for look in (self._counts, self._check_lost, self._candidate):
            for name in self.sources:
                self._note_failure(look, name)
        for name, source in self.sources.items():
            if name in self.failures:
                continue
            counts = self._counts(name)
            candidates.append(self._candidate(name))
            costs |= {(name, n): self._cost(source, n, counts) for n in counts.train}
            available[name] = sizes
        if not candidates:
            raise NoCandidateError(self.data.name, self.failures)
        return Task(
            self.data.name,
            tuple(candidates),
            self.n_samples_full,
            available,
            costs,
            seed=self.seed,
            failures=dict(self.failures),
            measure=self.measure,
            losses_before=dict(self._losses_before) if self.measure.is_loss else {},
            failure_codes=dict(self.failure_codes),
        )

    def _candidate(self, name: str) -> Candidate:
        """What is known of a candidate beside its curve, with its latency if there is a limit.

        Raises:
            ValueError: It is over a limit.
        """
        source, counts = self.sources[name], self._counts(name)
        memory_gb = inference_memory_gb(source, counts.longest_test)
        found = Candidate(name, source.n_params, source.family, source.base_model, memory_gb)
        replace(self.limits, max_latency_ms=None).check_candidate(found)
        if self.limits.licence is not None:
            self.limits.check_licences(licences_of(source))
        if self.limits.max_latency_ms is not None:
            found = replace(found, latency_ms=self._latency(source, counts.sample))
        self.limits.check_candidate(found)
        return found

    def _latency(self, source: ModelSource, examples: Sequence[Example]) -> float:
        """Milliseconds per target, measured once for all arms of a model."""
        key = source.fingerprint, source.dtype
        if key not in self._latencies:
            pad = self._encoder(source.name).tokenizer.pad_token_id
            device = "cpu" if device_of(self.make_trainer) == "cpu" else "cuda"
            self._latencies[key] = measure_latency(source, examples, pad, device)
        return self._latencies[key]

    def _ladder(self) -> tuple[int, ...]:
        return size_ladder(self.n_samples_full)

    def _in_unit(self, result: TrialResult) -> TrialResult:
        return _with_errors(result)

    def longest(self, name: str) -> tuple[int, int]:
        """Tokens of a candidate's longest input and longest target among the counted pairs."""
        return self._counts(name).longest

    def _encoder(self, name: str) -> PairEncoder:
        if name not in self._encoders:
            source = self.sources[name]
            self._encoders[name] = make_encoder(
                source,
                source.load_tokenizer(),
                self.data,
                self.settings.prompt,
                self.settings.truncation_side,
            )
        return self._encoders[name]

    def _counts(self, name: str) -> TokenCounts:
        if name not in self._token_counts:
            sizes = sorted({*self.sizes, self.n_samples_full})
            self._token_counts[name] = count_tokens(
                self._encoder(name),
                self.sources[name],
                self.data,
                self.settings,
                sizes,
                self.seed,
            )
            side = self.settings.truncation_side
            say_shares(self._encoder(name).counts, side, name, self.data.name)
        return self._token_counts[name]

    def _cost(self, source: ModelSource, n_samples: int, counts: TokenCounts) -> float:
        """An upper bound on the FLOPs of one trial: training for all of its epochs."""
        trained = counts.train[n_samples] * self.settings.max_epochs
        evaluated: float = counts.validation[n_samples] + counts.test
        if self.measuring is not None:
            n_test = len(counts.targets)
            prompt = (counts.test - sum(counts.targets)) / n_test
            longest = max(counts.targets)
            evaluated += self.measuring.tokens(n_samples, self.settings, n_test, prompt, longest)
        per_trained, per_evaluated = source.flops_per_token
        return per_trained * trained + per_evaluated * evaluated


def _is_sharded(make_trainer: Callable[..., Any]) -> bool:
    """Whether a trainer shards weights over processes."""
    return "fsdp" in str(getattr(make_trainer, "keywords", {}).get("strategy", ""))


def _with_errors(result: TrialResult) -> TrialResult:
    """A result with its standard error per byte, from its examples if it was not stored."""
    examples = ExampleLosses.from_json(result.examples)
    if examples is None or math.isfinite(result.test_loss_per_byte_se):
        return result
    return replace(result, test_loss_per_byte_se=examples.per_byte().standard_error())


def _check_scheduler(make_scheduler: Callable[..., Any]) -> None:
    """Check the schedule's settings by making one, before anything is loaded.

    Raises:
        ValueError: The schedule rejects them, or a trial's key cannot hold them.
    """
    describe(make_scheduler, "scheduler")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        make_scheduler(optimizer, 10)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"Expected valid settings for scheduler, got: {error}") from error


def _check_optimizer(make_optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    """Check the optimizer's settings by making one, before anything is loaded."""
    try:
        make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, RuntimeError) as error:
        keywords = getattr(make_optimizer, "keywords", {})
        given = ", ".join(f"{key}={value}" for key, value in keywords.items())
        raise ValueError(f"Expected valid settings for optimizer, got {given}: {error}") from error
