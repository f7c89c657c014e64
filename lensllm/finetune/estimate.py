"""Cost of a campaign, estimated before it runs: memory, FLOPs, time and money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from lensllm.finetune.hardware import Hardware
from lensllm.finetune.memory import (
    HEADROOM,
    MemoryEstimate,
    advice,
    estimate_memory,
    free_memory,
    largest_micro_batch,
)
from lensllm.finetune.models import ModelSource
from lensllm.finetune.trial import TrainingSettings
from lensllm.system.resources import main_memory

# What CUDA and its libraries take of a device in every process beside the tensors: 0.3 to 0.6 GB.
CONTEXT_BYTES = 0.5e9

if TYPE_CHECKING:
    from lensllm.execution.finetune import FineTuneRunner


@dataclass(frozen=True)
class CandidateEstimate:
    """Estimated cost of one candidate.

    Attributes:
        model: Its name.
        n_params: Parameters, adapters included.
        n_trainable: Parameters that are trained.
        micro_batch: Largest micro-batch that fits, at most a whole batch.
        memory: Peak memory of a training step with this micro-batch, by component.
        needed: Bytes required: the peak of the device, or of the whole process on a CPU; a lower
            bound where activations are not known.
        fits: Whether it fits at all.
        advice: What would make it fit; empty where it does.
        flops: FLOPs of a trial by its size D, an upper estimate where training may stop early.
        gated: Whether its licence has to be accepted on the Hub first.
        notes: Class, licence and so on, where its configuration has them.
    """

    model: str
    n_params: int
    n_trainable: int
    micro_batch: int
    memory: MemoryEstimate
    needed: float
    fits: bool
    advice: str
    flops: Mapping[int, float]
    gated: bool = False
    notes: str = ""


def estimate_candidate(
    source: ModelSource,
    flops: Mapping[int, float],
    longest: tuple[int, int],
    settings: TrainingSettings,
    hardware: Hardware,
    precision: str,
) -> CandidateEstimate:
    """Estimate one candidate.

    Args:
        source: The candidate.
        flops: FLOPs of its trials by size.
        longest: Tokens of the longest input and of the longest target.
        settings: Batch sizes.
        hardware: Devices.
        precision: Lightning's name of the precision.

    Returns:
        The estimate; a candidate that does not fit says what would make it fit.
    """
    options: dict[str, Any] = {
        "precision": precision,
        "gradient_checkpointing": settings.gradient_checkpointing,
    }
    room = free_memory() if hardware.memory_gb is None else 1e9 * hardware.memory_gb
    most = -(-settings.batch_size // hardware.n_devices)
    if isinstance(settings.micro_batch_size, int):
        most = min(most, settings.micro_batch_size)
    words, micro = "", most
    try:
        if settings.micro_batch_size == "auto":
            micro = largest_micro_batch(source, most, *longest, memory=room, **options)
        memory = estimate_memory(source, micro, *longest, **options)
    except ValueError:
        micro = 1
        memory = estimate_memory(source, 1, *longest, **options)
    takes = needed(memory, hardware, precision)
    fits = takes <= HEADROOM * room
    if not fits:
        words = advice(source, memory, options)
        if settings.micro_batch_size != "auto":
            words = f"training.micro_batch_size=auto; {words}"
    return CandidateEstimate(
        source.name,
        source.n_params,
        source.n_trainable,
        micro,
        memory,
        takes,
        fits,
        words,
        dict(flops),
        source.gated,
        source.notes,
    )


def needed(memory: MemoryEstimate, hardware: Hardware, precision: str) -> float:
    """Bytes required of the limiting memory: the device's, or on a CPU the whole process's."""
    if not hardware.is_here or torch.cuda.is_available():
        return memory.device
    process = hardware.process_gb + (0 if precision == "32-true" else hardware.kernels_gb)
    holes = hardware.fragmentation * (memory.activations + memory.loss)
    return 1e9 * process + memory.total + holes


def estimate_campaign(runner: FineTuneRunner, hardware: Hardware) -> list[CandidateEstimate]:
    """Estimate the candidates of a runner; loads configs and tokenizers, no weights.

    Args:
        runner: A `FineTuneRunner`.
        hardware: Devices.
    """
    task = runner.task()
    sizes = [*task.sizes, task.n_samples_full]
    return [
        estimate_candidate(
            source,
            {n: task.costs[name, n] for n in sizes if (name, n) in task.costs},
            runner.longest(name),
            runner.settings,
            hardware,
            runner.precision,
        )
        for name, source in runner.sources.items()
        if name in task.names
    ]


@dataclass(frozen=True)
class Sharing:
    """How the trials that run at once share this machine.

    Attributes:
        n_processes: Processes, each with one trial, that share the main memory.
        n_gpus: GPUs that they use in turn.
    """

    n_processes: int = 1
    n_gpus: int = 1

    @property
    def per_device(self) -> int:
        """Most trials on one device."""
        if not torch.cuda.is_available():
            return self.n_processes
        return -(-self.n_processes // self.n_gpus)


def memory_refusal(
    source: ModelSource,
    longest: tuple[int, int],
    settings: TrainingSettings,
    precision: str,
    sharing: Sharing = Sharing(),
    negligible: float = 1 / 200,
) -> str:
    """Why a candidate does not fit into this machine's free memory; empty where it does.

    Args:
        source: The candidate.
        longest: Tokens of the longest input and of the longest target.
        settings: Batch sizes.
        precision: Lightning's name of the precision.
        sharing: Processes that share main memory and devices: trials of one candidate may run in
            all of them at once.
        negligible: Candidates whose weights take less than this share of the free memory are not
            checked.

    Returns:
        What was expected, what it takes, and what would make it fit.
    """
    free = free_memory()
    if 4.0 * source.n_params < negligible * free:
        return ""
    # On a CPU, what this process itself has taken is not free any more.
    own = Hardware.process_gb if sharing.per_device > 1 else 0.0
    here = Hardware("the free memory of this machine", peak_flops=1.0, process_gb=own)
    estimate = estimate_candidate(source, {}, longest, settings, here, precision)
    takes, n_sharing, place = estimate.needed, sharing.per_device, here.name
    if torch.cuda.is_available():
        takes += CONTEXT_BYTES * (n_sharing > 1)
        beside = 1e9 * Hardware.process_gb + estimate.memory.best_weights
        if beside * sharing.n_processes > HEADROOM * main_memory().free:
            takes, n_sharing = beside, sharing.n_processes
            place, free = "the free main memory of this machine", main_memory().free
    if takes * n_sharing <= HEADROOM * free:
        return ""
    times = f" {n_sharing} times" if n_sharing > 1 else ""
    return (
        f"Expected candidates that fit into {place} ({free / 1e9:.1f} GB), "
        f"{estimate.model} takes{times} {takes / 1e9:.1f} GB with "
        f"{estimate.micro_batch} examples at once: "
        f"{estimate.advice or 'take fewer executor.n_workers'}; or set preflight=false"
    )


def as_record(
    estimates: Sequence[CandidateEstimate], hardware: Hardware, budget_flops: float
) -> dict[str, Any]:
    """The full estimate in JSON types."""
    return {
        "hardware": asdict(hardware),
        "budget": {
            "flops": budget_flops,
            "seconds": hardware.seconds(budget_flops),
            "price": hardware.price(budget_flops),
        },
        "candidates": [
            {
                **asdict(estimate),
                "memory": {
                    **asdict(estimate.memory),
                    "device": estimate.memory.device,
                    "total": estimate.memory.total,
                },
                "trials": [
                    {
                        "n_samples": n,
                        "flops": flops,
                        "seconds": hardware.seconds(flops),
                        "price": hardware.price(flops),
                    }
                    for n, flops in estimate.flops.items()
                ],
            }
            for estimate in estimates
        ],
    }
