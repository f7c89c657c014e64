"""Memory of a device: its estimate, a search below a cap, and going on when it runs out.

On a GPU the allocator enforces the cap, and memory runs out in earnest. A CPU has no such cap:
there the search is only told it, and a callback says that memory has run out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch

from lensllm.core.trials import TrialResult
from lensllm.data.pairs import TextData
from lensllm.doctor.device_models import long_data, longest
from lensllm.doctor.tiny_trial import Place, run_at
from lensllm.finetune.memory import estimate_memory, largest_micro_batch
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings

MEMORY_TOLERANCE = 0.25
SAME_LOSS = 2e-3  # relative, of other micro-batches in float32
CAP = 0.7  # of what a whole batch takes by the estimate
SIMULATED = 5  # examples at once for which a CPU is said to have memory


@contextlib.contextmanager
def memory_cap(place: Place, n_bytes: float) -> Iterator[None]:
    """A block in which the allocator of a GPU refuses more than so many bytes.

    On a CPU there is no such refusal.
    """
    if not place.is_gpu:
        yield
        return
    device = torch.device(place.device)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, n_bytes / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def check_search(place: Place, source: ModelSource, batch_size: int) -> Any:
    """The micro-batch that the estimate finds below a cap trains there, to the same loss."""
    data, settings = _task(batch_size)
    lengths = longest(source, data)
    cap = CAP * estimate_memory(source, batch_size, *lengths).device
    micro = largest_micro_batch(source, batch_size, *lengths, cap)
    whole = run_at(place, source, data, settings, 2 * batch_size)
    watch = _OutOfMemory(None)
    with memory_cap(place, cap):
        smaller = replace(settings, micro_batch_size=micro)
        found = run_at(place, source, data, smaller, 2 * batch_size, (watch,))
    off = _off(found, whole)
    numbers = {"micro": float(micro), "off": off, "loss": found.test_loss, "cap_bytes": cap}
    numbers["peak_bytes"] = float(found.peak_memory_bytes)
    told = "enforced" if place.is_gpu else "which a CPU does not enforce"
    text = f"{micro} of {batch_size} below {cap / 1e6:.0f} MB, {told}, loss off by {off:.1e}"
    fits = watch.n_times == 0 and (not place.is_gpu or found.peak_memory_bytes <= cap)
    return fits and micro < batch_size and off <= SAME_LOSS, text, numbers


def check_recovery(place: Place, source: ModelSource, batch_size: int) -> Any:
    """A trial for which memory runs out goes on with smaller micro-batches, to the same loss."""
    data, settings = _task(batch_size)
    cap = CAP * estimate_memory(source, batch_size, *longest(source, data)).device
    whole = run_at(place, source, data, settings, 2 * batch_size)
    watch = _OutOfMemory(None if place.is_gpu else SIMULATED)
    with memory_cap(place, cap):
        found = run_at(place, source, data, settings, 2 * batch_size, (watch,))
    off, micro = _off(found, whole), found.data["micro_batch_size"]
    numbers = {"off": off, "n_times": float(watch.n_times), "micro": float(micro or batch_size)}
    how = f"below {cap / 1e6:.0f} MB" if place.is_gpu else "as a callback says"
    text = f"{watch.n_times} times {how}; went on with {micro} of {batch_size}, off by {off:.1e}"
    return watch.n_times > 0 and micro is not None and off <= SAME_LOSS, text, numbers


def check_estimate(place: Place, source: ModelSource, batch_size: int) -> Any:
    """The estimated peak of a training step against the allocator's."""
    data, settings = _task(batch_size)
    there = replace(place, precision="bf16-mixed", tf32=True)
    measured = run_at(there, source, data, settings, 2 * batch_size).peak_memory_bytes
    lengths = longest(source, data)
    estimate = estimate_memory(source, batch_size, *lengths, precision="bf16-mixed").device
    text = f"{measured / 1e9:.2f} GB at the peak, estimated {estimate / 1e9:.2f} GB"
    numbers = {"measured": float(measured), "estimated": estimate}
    return abs(estimate / measured - 1.0) <= MEMORY_TOLERANCE, text, numbers


class _OutOfMemory(pl.Callback):
    """Counts how often memory runs out, and lets it do so beyond so many examples at once."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.n_times = 0

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the batch."""
        if self.most is not None and len(batch["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("a limit of the check")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Count."""
        self.n_times += isinstance(exception, torch.OutOfMemoryError)


def _task(batch_size: int) -> tuple[TextData, TrainingSettings]:
    return long_data(), TrainingSettings(batch_size=batch_size, max_epochs=1, n_evaluations=1)


def _off(found: TrialResult, expected: TrialResult) -> float:
    return abs(found.test_loss / expected.test_loss - 1.0)
