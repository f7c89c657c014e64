"""Tokens per second of a trial, of a plain loop and of the Trainer of transformers, in turn."""

from __future__ import annotations

import math
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from lensllm.doctor.device_models import encoded, long_data
from lensllm.doctor.tiny_trial import Pace, Place, run_at
from lensllm.finetune.encoding import IGNORED, Collator, Example, target_loss
from lensllm.finetune.loading import make_loader
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings

N_STEPS = 6
LEAST_RATIO = 0.5  # of the tokens per second of a trial to those of the two others
LEARNING_RATE = 1e-3
PEAKS = {  # dense bf16 FLOPs per second by NVIDIA's data sheets, as in `conf/hardware`
    r"A100": 312e12,
    r"H100(?! PCIe| NVL)": 989e12,  # the two others are slower
    r"H200(?! NVL)": 989e12,
    r"RTX 4090$": 165e12,
}


def check_speed(
    place: Place, source: ModelSource, batch_size: int, n_rounds: int
) -> tuple[bool, str, dict[str, float]]:
    """Compare the three within each round, and FLOPs with the peak of the device."""
    data = long_data()
    n_samples = min(len(data.train), N_STEPS * batch_size)
    settings = TrainingSettings(batch_size=batch_size, max_epochs=1, n_evaluations=1)
    there = replace(place, precision="bf16-mixed", tf32=True)
    examples = encoded(source, data, n_samples)
    rates: dict[str, list[float]] = {"trial": [], "plain": [], "trainer": []}
    for _ in range(n_rounds):
        pace = Pace()
        run_at(there, source, data, settings, n_samples, (pace,))
        rates["trial"].append(pace.tokens_per_second)
        rates["plain"].append(plain_rate(place, source, examples, batch_size))
        rates["trainer"].append(trainer_rate(place, source, examples, batch_size))
    trial = statistics.median(rates["trial"])
    to_plain, to_trainer = (paired(rates["trial"], rates[name]) for name in ("plain", "trainer"))
    flops = trial * source.flops_per_token[0]
    used, of_product = flops / peak_flops(place), flops / matrix_flops(place)
    text = (
        f"{source.n_params / 1e6:.1f} M parameters, {trial:.0f} tokens/s, {to_plain:.2f} times a "
        f"plain loop, {to_trainer:.2f} times the Trainer; of the device's peak FLOPs "
        f"{'unknown' if math.isnan(used) else f'{used:.0%}'}, of a matrix product's "
        f"{of_product:.0%}"
    )
    numbers = {
        "tokens_per_second": trial,
        "plain": statistics.median(rates["plain"]),
        "trainer": statistics.median(rates["trainer"]),
        "ratio_to_plain": to_plain,
        "ratio_to_trainer": to_trainer,
        "utilisation": used,
        "share_of_matrix_product": of_product,
    }
    return min(to_plain, to_trainer) > LEAST_RATIO, text, numbers


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of the ratio within each: what slows a round down slows both.

    Example:
        >>> paired([10.0, 1.0, 8.0], [5.0, 1.0, 4.0])
        2.0
    """
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


@dataclass
class _Watch:
    """Tokens and seconds of steps, without the first one."""

    place: Place
    start: float = field(default=math.nan, init=False)
    n_tokens: int = field(default=0, init=False)

    def step(self, n_tokens: int) -> None:
        """Look at the clock when the device has finished a step."""
        if self.place.is_gpu:
            torch.cuda.synchronize()
        self.end = time.perf_counter()
        if math.isnan(self.start):
            self.start = self.end
        else:
            self.n_tokens += n_tokens

    @property
    def rate(self) -> float:
        """Tokens per second; `nan` for less than two steps."""
        seconds = self.end - self.start
        return self.n_tokens / seconds if seconds > 0 else math.nan


def plain_rate(
    place: Place, source: ModelSource, examples: Sequence[Example], batch_size: int
) -> float:
    """Tokens per second of a loop of ten lines."""
    device, watch = torch.device(place.device), _Watch(place)
    model = source.load_model().to(device).train()
    collator = Collator(0, is_encoder_decoder=source.is_encoder_decoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    for batch in make_loader(list(examples), collator, batch_size, seed=0, shuffle=True):
        given = {name: value.to(device) for name, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16):
            total, n_targets = target_loss(model, given)
        optimizer.zero_grad()
        (total / n_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        watch.step(int(given["attention_mask"].sum()))
    return watch.rate


class _WatchedTrainer(Trainer):
    """Looks at the clock after the backward pass of each step."""

    watch: _Watch

    def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Tensor:
        """See `Trainer.training_step`."""
        loss = super().training_step(model, inputs, *rest, **options)
        self.watch.step(int(inputs["attention_mask"].sum()))
        return loss


def trainer_rate(
    place: Place, source: ModelSource, examples: Sequence[Example], batch_size: int
) -> float:
    """Tokens per second of the Trainer of transformers, with the same precision and optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            optim="adamw_torch_fused",
            bf16=True,
            tf32=True if place.is_gpu else None,
            use_cpu=not place.is_gpu,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = _WatchedTrainer(
            source.load_model(),
            arguments,
            data_collator=_with_full_labels,
            train_dataset=list(examples),
        )
        trainer.watch = _Watch(place)
        trainer.train()
    return trainer.watch.rate


def _with_full_labels(examples: Sequence[Example]) -> dict[str, Tensor]:
    """A batch of a decoder as transformers wants it: padded on the right, labels for all tokens."""
    rows = [torch.tensor((*e.source, *e.target)) for e in examples]
    labels = [torch.tensor((*(IGNORED,) * len(e.source), *e.target)) for e in examples]
    masks = [torch.ones_like(row) for row in rows]
    return {
        "input_ids": pad_sequence(rows, batch_first=True),
        "attention_mask": pad_sequence(masks, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def peak_flops(place: Place) -> float:
    """Peak FLOPs per second in bf16 by the data sheet; `nan` where it is not known."""
    return peak_of(torch.cuda.get_device_name(place.device)) if place.is_gpu else math.nan


def peak_of(device: str) -> float:
    """The peak of a GPU by its name.

    Example:
        >>> peak_of("NVIDIA A100-SXM4-80GB"), peak_of("NVIDIA H100 PCIe"), peak_of("Tesla T4")
        (312000000000000.0, nan, nan)
    """
    return next((peak for name, peak in PEAKS.items() if re.search(name, device)), math.nan)


def matrix_flops(place: Place, size: int = 1024) -> float:
    """FLOPs per second of a product of square matrices in bfloat16."""
    size = 8 * size if place.is_gpu else size
    a = torch.randn(size, size, device=place.device, dtype=torch.bfloat16)
    for n_times in (1, 5):  # the first warms up
        start = time.perf_counter()
        for _ in range(n_times):
            a @ a
        if place.is_gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / n_times
    return 2.0 * size**3 / seconds
