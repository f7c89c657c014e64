"""How much memory training takes, from a model's config alone: no weights, no device."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lensllm.finetune.adapters import FULL
from lensllm.finetune.encoding import target_loss
from lensllm.finetune.models import ModelSource
from lensllm.finetune.shapes import UnevenLayersError, depth, hidden_size
from lensllm.system.resources import main_memory, visible_gpus

logger = logging.getLogger(__name__)

HEADROOM = 0.9


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes on one device, at its peak.

    Attributes:
        weights: All weights, and the low-precision copies of autocast that backward needs.
        optimizer: AdamW's two moments of what is trained.
        gradients: Gradients of what is trained.
        best_weights: The copy that early stopping keeps, in main memory.
        activations: What one micro-batch's forward pass keeps for backward.
        loss: Logits and their gradients while the loss is computed.
        is_known: Whether activations are known; if not, they are left out of the sum.
    """

    weights: float
    optimizer: float
    gradients: float
    best_weights: float
    activations: float
    loss: float
    is_known: bool = True

    @property
    def static(self) -> float:
        """Device memory that does not depend on the batch."""
        return self.weights + self.optimizer

    @property
    def device(self) -> float:
        """Peak on the device: at the end of a forward pass, or when all gradients exist."""
        return self.static + max(self.activations + self.loss, self.gradients)

    @property
    def total(self) -> float:
        """The same where device and main memory are one, as on a CPU."""
        return self.device + self.best_weights


def estimate_memory(
    source: ModelSource,
    micro_batch: int,
    n_source: int,
    n_target: int,
    *,
    precision: str = "32-true",
    gradient_checkpointing: bool = False,
) -> MemoryEstimate:
    """Estimate the peak memory of a training step.

    Activations are what autograd saves in a forward pass over tensors without data, for one layer
    and for two; every further layer takes as much as the second.

    Args:
        source: The candidate, with its way of fine-tuning.
        micro_batch: Examples per forward pass.
        n_source: Tokens of the longest input.
        n_target: Tokens of the longest target.
        precision: Lightning's name of the precision.
        gradient_checkpointing: Whether activations inside a layer are recomputed in the backward
            pass.

    Returns:
        The parts, in bytes.
    """
    autocast = precision in ("bf16-mixed", "16-mixed")
    width = torch.finfo(getattr(torch, source.dtype)).bits // 8
    method = source.finetune or FULL
    # Four bits and the scales of their blocks; peft keeps adapters in float32.
    per_weight = 4.5 / 8 if method.method == "qlora" else width
    n_adapters = 0 if method.is_full else source.n_trainable
    trainable = float(source.n_trainable * (width if method.is_full else 4))
    batch = _Batch(micro_batch, n_source, n_target, autocast)
    head = 4.0 * micro_batch * n_target * source.vocab_size
    try:
        activations = _activations(source, batch, trainable, head, gradient_checkpointing)
    except Exception as error:  # an operator that needs values, or a layer that needs its own kind
        logger.warning("The activations of %s are not known beforehand: %s", source.name, error)
        activations = math.nan
    is_known = not math.isnan(activations)
    return MemoryEstimate(
        weights=(source.n_params - n_adapters) * per_weight + 4.0 * n_adapters,
        optimizer=2 * trainable,
        gradients=trainable,
        best_weights=trainable,
        activations=activations if is_known else 0.0,
        loss=2.0 * head,
        is_known=is_known,
    )


@dataclass(frozen=True)
class _Batch:
    """Shape of a micro-batch, and whether it is computed in half precision."""

    n_rows: int
    n_source: int
    n_target: int
    autocast: bool


def _activations(
    source: ModelSource, batch: _Batch, trainable: float, head: float, checkpointing: bool
) -> float:
    """Bytes that one step keeps for its backward pass, at its peak."""
    config, n_layers = source.config, depth(source.config)
    try:
        one, two = (_saved(source, n, batch) for n in (1, 2))
    except UnevenLayersError:  # all layers at once, and their mean
        whole = _saved(source, None, batch)
        if not checkpointing:
            return float(whole)
        one, two = whole // n_layers, 2 * whole // n_layers
    layer = two - one
    if not checkpointing:
        return float(one + (n_layers - 1) * layer)
    width = torch.finfo(getattr(torch, source.dtype)).bits // 8
    hidden = batch.n_rows * hidden_size(config) * (2 if batch.autocast else width)
    inputs = n_layers * hidden * (batch.n_source + batch.n_target)
    again, n_tokens = layer, batch.n_source + batch.n_target
    if source.is_encoder_decoder:  # its two layers are not recomputed at the same time
        short = replace(batch, n_target=1)
        encoder = _saved(source, 2, short) - _saved(source, 1, short)
        again, n_tokens = max(encoder, layer - encoder), max(batch.n_source, batch.n_target)
    # When a layer is recomputed, the logits have been freed. Beside it are gradients of its widest
    # activations, two of four times the width. From the last layer to the first gradients of
    # weights take the place of the layers' inputs; those of embeddings can come first.
    outside = trainable * _outside_layers(source)
    gradients = 8 * hidden * n_tokens + max(inputs + outside, trainable)
    return float(max(inputs + one - layer, again + gradients - 2 * head))


def largest_micro_batch(
    source: ModelSource,
    batch_size: int,
    n_source: int,
    n_target: int,
    memory: float,
    **options: Any,
) -> int:
    """The largest micro-batch that fits, at most `batch_size`.

    Args:
        source: The candidate.
        batch_size: Examples of a whole batch.
        n_source: Tokens of the longest input.
        n_target: Tokens of the longest target.
        memory: Bytes that are free on the device.
        **options: See `estimate_memory`.

    Raises:
        ValueError: Not even one example fits; the message has what would make it fit.
    """
    one, two = (estimate_memory(source, n, n_source, n_target, **options) for n in (1, 2))
    if not one.is_known and one.device <= HEADROOM * memory:
        return batch_size  # `run_trial` halves it where memory runs out
    each = two.activations + two.loss - one.activations - one.loss
    room = HEADROOM * memory - one.device
    if room < 0:
        raise ValueError(
            f"Expected room for {source.name} in {memory / 1e9:.1f} GB, its training takes "
            f"{one.device / 1e9:.1f} GB with one example at once: {advice(source, one, options)}"
        )
    return max(1, min(batch_size, 1 + int(room // max(each, 1.0))))


def advice(source: ModelSource, estimate: MemoryEstimate, options: dict[str, Any]) -> str:
    """What would make a candidate fit, in words."""
    ways = []
    if (source.finetune or FULL).is_full:
        ways.append(f"finetune=lora (about {1.1 * estimate.weights / 1e9:.1f} GB and activations)")
    if source.dtype == "float32":
        ways.append("a `dtype` of bfloat16 (half of it)")
    if not options.get("gradient_checkpointing"):
        ways.append("training.gradient_checkpointing=true")
    return "; ".join([*ways, "a device with more memory, or trainer=fsdp over several"])


def free_memory() -> float:
    """Free bytes of the current CUDA device where there is one, else of main memory.

    Main memory is what the limits of containers and jobs leave. As long as this process has not
    used CUDA, the driver is asked, since a context of its own would take memory that trials need.
    """
    if not torch.cuda.is_available():
        return main_memory().free
    gpus = [] if torch.cuda.is_initialized() else visible_gpus()
    return gpus[0].free if gpus else float(torch.cuda.mem_get_info()[0])


def restart_peak() -> None:
    """Release memory that earlier trials left, and reset the peak."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, others need not
        if trim is not None:
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return  # not permitted in some containers: the peak is then the process's own


def peak_memory_bytes() -> int:
    """Peak memory of the CUDA device where there is one, else of this process.

    Counted since `restart_peak`; on systems other than Linux since the process began, and 0 where
    the system does not report it (Windows).
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        # Not getrusage, whose peak starts at that of the parent process.
        with open("/proc/self/status", encoding="ascii") as lines:
            peak = next(line for line in lines if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:  # Windows has none
            return 0
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(used if sys.platform == "darwin" else used * 1024)


def _outside_layers(source: ModelSource) -> float:
    """Share of the trained parameters that are in no layer, such as embeddings."""
    try:
        one, two = (
            sum(p.numel() for p in source.meta_model(n).parameters() if p.requires_grad)
            for n in (1, 2)
        )
    except UnevenLayersError:
        return 0.0
    return max(0, 2 * one - two) / source.n_trainable


def _without_data(model: torch.nn.Module) -> torch.nn.Module:
    """Replace a meta model's tensors by tensors that have a device, but no data.

    Operators then choose their kernels as they would on a CPU.
    """
    made: dict[int, torch.Tensor] = {}

    def replaced(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            empty = torch.empty_like(tensor, device="cpu")
            if isinstance(tensor, torch.nn.Parameter):
                empty = torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
            made[id(tensor)] = empty
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({n: replaced(t) for n, t in tensors.items() if t is not None})
    return model


def _saved(source: ModelSource, n_layers: int | None, batch: _Batch) -> int:
    """Bytes that autograd saves with `n_layers` layers, without parameters."""
    try:
        return _saved_bytes(source, n_layers, batch)
    except RuntimeError:
        if source.dtype != "float32" or batch.autocast:
            raise
        # Without data, the grouped matrix product of experts exists in half precision only.
        half = replace(source, dtype="bfloat16")
        return 2 * _saved_bytes(half, n_layers, batch)


def _saved_bytes(source: ModelSource, n_layers: int | None, batch: _Batch) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _without_data(source.meta_model(n_layers)).train()
        own = {p.untyped_storage()._cdata for p in model.parameters()}
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage()._cdata not in own:
                kept.setdefault(tensor.untyped_storage()._cdata, tensor)
            return tensor

        rows, n_target = batch.n_rows, batch.n_target
        length = batch.n_source + (0 if source.is_encoder_decoder else n_target - 1)
        given = {
            "input_ids": torch.zeros(rows, length, dtype=torch.long),
            "attention_mask": torch.ones(rows, length, dtype=torch.long),
            "labels": torch.zeros(rows, n_target, dtype=torch.long),
        }
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=batch.autocast, cache_enabled=False),
        ):
            target_loss(model, given)
        return sum(t.untyped_storage().nbytes() for t in kept.values())
