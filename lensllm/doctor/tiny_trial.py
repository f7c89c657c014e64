"""A trial of seconds on one device: does it learn, how fast, and as on the CPU?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from lensllm.core.trials import Trial, TrialResult
from lensllm.data.generated import load_copying
from lensllm.data.pairs import TextData
from lensllm.doctor.findings import Finding, Level
from lensllm.doctor.machine import BF16_SINCE
from lensllm.finetune.models import ModelSource
from lensllm.finetune.module import warmup_schedule
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.trainer import make_gpu_trainer
from lensllm.finetune.trial import run_trial
from lensllm.system.quiet import quiet_libraries

MODEL = "gpt2-48x2"
N_SAMPLES = 160  # ten steps
TOLERANCES = {"32-true": 0.01, "bf16-mixed": 0.03, "16-mixed": 0.03}  # of a loss, relative
SETTINGS = TrainingSettings(batch_size=16, max_epochs=1, n_evaluations=2)


@dataclass(frozen=True)
class Place:
    """Where and how a trial is run.

    Attributes:
        device: `cpu`, or `cuda:0` and so on.
        precision: Lightning's name of the precision.
        tf32: Whether float32 matrix products on a GPU may round to TensorFloat-32.
    """

    device: str = "cpu"
    precision: str = "32-true"
    tf32: bool = False

    @property
    def is_gpu(self) -> bool:
        """Whether it is a CUDA device."""
        return self.device.startswith("cuda")

    def make_trainer(self, *more: pl.Callback) -> Callable[..., pl.Trainer]:
        """Maker of Lightning trainers for this device, with further callbacks."""

        def make(callbacks: list[Any], **options: Any) -> pl.Trainer:
            return make_gpu_trainer(
                accelerator="gpu" if self.is_gpu else "cpu",
                devices=[int(self.device.partition(":")[2])] if self.is_gpu else 1,
                precision=self.precision,
                gradient_clip_val=1.0,
                deterministic=not self.is_gpu,
                enable_progress_bar=False,
                tf32=self.tf32,
                callbacks=[*callbacks, *more],
                **options,
            )

        return make


@dataclass
class Pace(pl.Callback):
    """Tokens that training processes, and the seconds that it takes, without its first batch."""

    start: float = field(default=math.nan, init=False)
    end: float = field(default=math.nan, init=False)
    first: int = field(default=0, init=False)
    last: int = field(default=0, init=False)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Look at the clock when the device has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.end, self.last = time.perf_counter(), pl_module.n_train_tokens
        if math.isnan(self.start):
            self.start, self.first = self.end, self.last

    @property
    def tokens_per_second(self) -> float:
        """Training tokens a second; `nan` where there was one batch alone."""
        seconds = self.end - self.start
        return (self.last - self.first) / seconds if seconds > 0 else math.nan


def tiny_data() -> TextData:
    """Sentences to their four words; with this seed, no test pair is close to a training pair."""
    return load_copying(16, 48, seed=5, max_input_tokens=48, max_target_tokens=48)


def places() -> list[Place]:
    """The CPU, then each GPU that CUDA sees, in the precision that suits it."""
    found = [Place()]
    for i in range(torch.cuda.device_count()):
        has_bf16 = torch.cuda.get_device_capability(i) >= BF16_SINCE
        found.append(Place(f"cuda:{i}", "bf16-mixed" if has_bf16 else "16-mixed", tf32=True))
    return found


def run_at(
    place: Place,
    source: ModelSource,
    data: TextData,
    settings: TrainingSettings = SETTINGS,
    n_samples: int = N_SAMPLES,
    callbacks: tuple[pl.Callback, ...] = (),
    **options: Any,
) -> TrialResult:
    """One trial at a place, without a store.

    Args:
        place: Where.
        source: The model.
        data: The data.
        settings: Batch size, epochs and so on.
        n_samples: Training pairs.
        callbacks: Further callbacks.
        **options: See `run_trial`.

    Raises:
        Exception: See `run_trial`.
    """
    return run_trial(
        Trial(source.name, data.name, n_samples),
        source,
        data,
        settings,
        partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01, fused=True),
        warmup_schedule,
        place.make_trainer(*callbacks),
        **options,
    )


def trial_findings(model: str = MODEL) -> Iterator[Finding]:
    """A tiny trial of a zoo model on every device; a GPU's loss is compared with the CPU's."""
    quiet_libraries()
    source, data = ModelSource(model), tiny_data()
    on_cpu = math.nan
    for place in places():
        pace = Pace()
        try:
            before = run_at(place, source, data, n_samples=0).test_loss
            after = run_at(place, source, data, callbacks=(pace,)).test_loss
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            yield Finding(f"trial on {place.device}", "broken", words, _advice(place))
            continue
        on_cpu = on_cpu if place.is_gpu else after
        yield trial_finding(place, source.name, before, after, pace.tokens_per_second, on_cpu)


def trial_finding(
    place: Place, model: str, before: float, after: float, rate: float, on_cpu: float
) -> Finding:
    """What a trial says about its device: its losses have to fall, and to be those of the CPU."""
    off = abs(after / on_cpu - 1.0) if math.isfinite(on_cpu) else 0.0
    measured = {
        "loss_before": before,
        "loss_after": after,
        "tokens_per_second": rate,
        "difference_to_cpu": off,
    }
    numbers = {
        "device": place.device,
        "precision": place.precision,
        "model": model,
        **{name: x if math.isfinite(x) else None for name, x in measured.items()},
    }
    text = (
        f"{model}, {place.precision}, loss {before:.3f} to {after:.3f} in "
        f"{SETTINGS.n_steps(N_SAMPLES)} steps, {rate:.0f} tokens/s"
    )
    wrong = ""
    if not after < before:
        wrong = "expected a loss that falls"
    elif off > TOLERANCES[place.precision]:
        wrong = f"expected the loss of the CPU, {on_cpu:.3f}"
    level: Level = "broken" if wrong else "ok"
    advice = f"{wrong}: {_advice(place)}" if wrong else ""
    return Finding(f"trial on {place.device}", level, text, advice, numbers)


def _advice(place: Place) -> str:
    if place.is_gpu:
        return "look at the driver and the CUDA version of torch, or take trainer=cpu"
    return "reinstall torch (pip install --force-reinstall torch)"
