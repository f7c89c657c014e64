"""Findings on packages, processors, memory, disks, GPUs and the Hub; none of them needs torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from lensllm.doctor.findings import Finding
from lensllm.system.resources import Gpu, main_memory, n_cpus, visible_gpus

LEAST_DISK = 2e9  # the store of a campaign, and the cache of one data set
LEAST_MEMORY = 1e9  # PyTorch and a model of the zoo take 0.65 GB
BF16_SINCE = (8, 0)  # NVIDIA's compute capability with bfloat16 in hardware (Ampere)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HUB_SECONDS = 10.0


def machine_findings(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """All findings that need no network and no torch.

    Args:
        folders: Folders that lensllm writes to, by what they are for.
    """
    yield from package_findings()
    yield cpu_finding()
    yield memory_finding()
    for purpose, folder in folders.items():
        yield disk_finding(purpose, folder)
    yield from gpu_findings(visible_gpus())


def package_findings() -> Iterator[Finding]:
    """The packages that every command needs, then what each extra lacks."""
    versions = {"lensllm": importlib.metadata.version("lensllm")}
    needed: dict[str, list[Requirement]] = {"": []}
    for text in importlib.metadata.requires("lensllm") or ():
        requirement = Requirement(text)
        of = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        needed.setdefault(of[1] if of else "", []).append(requirement)
    for extra, requirements in needed.items():
        found = {item.name: _version(item.name) for item in requirements if item.name != "lensllm"}
        versions |= {name: version for name, version in found.items() if version}
        lacking = [
            f"{item.name}{item.specifier}"
            + (f" (here {found[item.name]})" if found[item.name] else "")
            for item in requirements
            if item.name in found and not _is_met(item, found[item.name])
        ]
        if extra:
            yield _extra(extra, lacking)
        else:
            core = f"Python {platform.python_version()}, lensllm {versions['lensllm']}"
            way = f"pip install -U {' '.join(repr(word.split(' (')[0]) for word in lacking)}"
            yield Finding(
                "packages",
                "broken" if lacking else "ok",
                f"{core}, lacks {', '.join(lacking)}" if lacking else core,
                way if lacking else "",
                {"python": platform.python_version(), "lacking": lacking},
            )
    telling = ("torch", "transformers", "pytorch-lightning", "peft", "datasets", "wandb", "ray")
    shown = [f"{name} {versions[name]}" for name in telling if name in versions]
    yield Finding("versions", "ok", ", ".join(shown) or "no optional package", numbers=versions)


def _extra(extra: str, lacking: list[str]) -> Finding:
    if not lacking:
        return Finding(f"extra {extra}", "ok", "installed", numbers={"lacking": []})
    return Finding(
        f"extra {extra}",
        "note",
        f"lacks {', '.join(lacking)}",
        f"pip install 'lensllm[{extra}]'",
        {"lacking": lacking},
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_met(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def cpu_finding() -> Finding:
    """Processors that this process may use, of those that the machine has, and threads."""
    usable, all_of_them = n_cpus(), os.cpu_count() or 1
    threads = {name: os.environ[name] for name in _THREADS if name in os.environ}
    says = ", ".join(f"{name}={value}" for name, value in threads.items()) or "threads not limited"
    return Finding(
        "CPU",
        "ok",
        f"{usable} of {all_of_them} processors for this process, {says}",
        numbers={"usable": usable, "all": all_of_them, "threads": threads},
    )


def memory_finding() -> Finding:
    """Main memory that is left below the tightest limit."""
    limit = main_memory()
    by = {"cgroup": "the limit of its container or job", "slurm": "what the Slurm job asked for"}
    return Finding(
        "memory",
        "note" if limit.free < LEAST_MEMORY else "ok",
        f"{limit.free / 1e9:.1f} GB free of {limit.total / 1e9:.1f} GB, "
        f"{by.get(limit.source, 'the memory of the machine')}",
        "fine-tuning takes at least 1 GB: end other programs, or ask for a larger job"
        if limit.free < LEAST_MEMORY
        else "",
        {"source": limit.source, "free_bytes": limit.free, "total_bytes": limit.total},
    )


def disk_finding(purpose: str, folder: Path) -> Finding:
    """Room on the disk of a folder, and whether it can be written; it is not created."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    numbers = {"folder": str(folder), "free_bytes": free}
    text = f"{folder} on a disk with {free / 1e9:.1f} GB free"
    if not (place.is_dir() and os.access(place, os.W_OK)):
        advice = f"{place} cannot be written: set paths.{purpose}_dir to another folder"
        return Finding(f"{purpose} folder", "broken", text, advice, numbers)
    scarce = free < LEAST_DISK
    advice = f"free some, or set paths.{purpose}_dir to a folder on another disk" if scarce else ""
    return Finding(f"{purpose} folder", "note" if scarce else "ok", text, advice, numbers)


def gpu_findings(gpus: list[Gpu]) -> Iterator[Finding]:
    """One finding for each GPU that CUDA would use, by the driver's own numbers."""
    if not gpus:
        yield Finding("GPU", "note", "none that NVIDIA's driver shows", "trainer=cpu trains here")
    for gpu in gpus:
        has_bf16 = gpu.capability >= BF16_SINCE
        yield Finding(
            f"GPU {gpu.index}",
            "ok" if has_bf16 else "note",
            f"{gpu.name}, {gpu.free / 1e9:.1f} GB free of {gpu.total / 1e9:.1f} GB, "
            f"{'bf16' if has_bf16 else 'no bf16'} in hardware, driver {gpu.driver}",
            "" if has_bf16 else "trainer.precision=16-mixed or 32-true",
            {
                "name": gpu.name,
                "free_bytes": gpu.free,
                "total_bytes": gpu.total,
                "bf16": has_bf16,
                "capability": list(gpu.capability),
                "driver": gpu.driver,
            },
        )


def hub_finding() -> Finding:
    """Whether the Hub of models can be reached; the one check that uses the network."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return Finding("hub", "note", "not asked", "it needs pip install 'lensllm[finetune]'")
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "note", "HF_HUB_OFFLINE is set", "unset it to load models from there")
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:
        words = f"{constants.ENDPOINT} is out of reach ({type(error).__name__})"
        return Finding("hub", "note", words, "local folders and models in the cache still work")
    return Finding("hub", "ok", f"{constants.ENDPOINT} answers with status {answer.status_code}")
