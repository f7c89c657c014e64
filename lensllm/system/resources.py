"""What this process may still use: main memory, processors and GPUs, within the limits of its job.

The memory that a machine has free is not what a job may take: containers and schedulers limit it by
control groups (cgroup v1 and v2), and Slurm says in the environment what was asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED = 2.0**60  # cgroup v1 writes its largest number of pages where there is no limit
# Files of limit and usage, and the key of memory.stat with what the kernel can take back.
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MemoryLimit:
    """One limit on the main memory that this process can take.

    Attributes:
        source: What limits it: `machine`, `cgroup` or `slurm`.
        total: The limit in bytes.
        free: Bytes that are left below it.
    """

    source: str
    total: float
    free: float


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU that this process can see.

    Attributes:
        index: Its number in the driver, which `CUDA_VISIBLE_DEVICES` takes.
        name: Its name.
        total: Its memory in bytes.
        free: Bytes that no process uses.
        capability: Compute capability (major, minor); bfloat16 in hardware from (8, 0) on.
        driver: Version of the driver.
    """

    index: int
    name: str
    total: float
    free: float
    capability: tuple[int, int]
    driver: str


def main_memory(
    cgroups: Path = CGROUPS,
    membership: Path = MEMBERSHIP,
    environment: Mapping[str, str] = os.environ,
) -> MemoryLimit:
    """The limit on main memory below which the least is left.

    Args:
        cgroups: Where control groups are mounted.
        membership: The file that says in which ones this process is.
        environment: Environment variables, in which Slurm describes the job.
    """
    machine = psutil.virtual_memory()
    limits = [
        MemoryLimit("machine", float(machine.total), float(machine.available)),
        *_cgroup_limits(cgroups, membership),
        *_slurm_limits(environment),
    ]
    return min(limits, key=lambda limit: limit.free)


def n_cpus(
    cgroups: Path = CGROUPS,
    membership: Path = MEMBERSHIP,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Processors that this process may use at once, at least one.

    Args:
        cgroups: Where control groups are mounted.
        membership: The file that says in which ones this process is.
        environment: Environment variables, in which Slurm describes the job.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    found = [float(len(affinity(0)) if affinity else os.cpu_count() or 1)]
    for folder, is_v2 in _groups(cgroups, membership, "cpu"):
        names = ["cpu.max"] if is_v2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        quota, period = [*" ".join(_text(folder / name) for name in names).split(), "", ""][:2]
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    with contextlib.suppress(KeyError, ValueError):
        found.append(float(environment["SLURM_CPUS_ON_NODE"]))
    return max(1, int(min(found)))


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """GPUs that CUDA would use in this process, in its order; none where there is no driver.

    It asks NVIDIA's management library, so that no CUDA context takes memory.

    Args:
        environment: Environment variables, of which `CUDA_VISIBLE_DEVICES` counts.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        names = [_str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        order = _visible(names, environment.get("CUDA_VISIBLE_DEVICES"))
        return [_gpu(pynvml, index, handles[index]) for index in order]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: object, index: int, handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)  # type: ignore[attr-defined]
    return Gpu(
        index,
        _str(pynvml.nvmlDeviceGetName(handle)),  # type: ignore[attr-defined]
        float(memory.total),
        float(memory.free),
        (int(major), int(minor)),
        _str(pynvml.nvmlSystemGetDriverVersion()),  # type: ignore[attr-defined]
    )


def _visible(names: list[str], choice: str | None) -> list[int]:
    """Positions of the GPUs that `CUDA_VISIBLE_DEVICES` names; CUDA stops at an unknown one.

    Example:
        >>> _visible(["GPU-a1", "GPU-b2", "GPU-c3"], "2,GPU-a,-1,1")
        [2, 0]
    """
    if choice is None:
        return list(range(len(names)))
    order: list[int] = []
    for word in choice.split(","):
        word = word.strip()
        found = [i for i, name in enumerate(names) if word and name.startswith(word)]
        if word.isdigit() and int(word) < len(names):
            found = [int(word)]
        if len(found) != 1:
            break
        order += found
    return order


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text  # bytes in older versions


def _cgroup_limits(cgroups: Path, membership: Path) -> Iterator[MemoryLimit]:
    """Limits of the control groups that this process is in, and of those around them."""
    for folder, is_v2 in _groups(cgroups, membership, "memory"):
        limit, usage, stat = _V2 if is_v2 else _V1
        total, used = _text(folder / limit), _text(folder / usage)
        if not (total.isdigit() and used.isdigit()) or int(total) >= UNLIMITED:
            continue
        lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
        cached = next((int(line[1]) for line in lines if line[:1] == [stat]), 0)
        free = max(0.0, int(total) - max(0.0, int(used) - cached))
        yield MemoryLimit("cgroup", float(total), free)


def _groups(cgroups: Path, membership: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that count, from inside out, and whether they are v2."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "-", "")
        is_v2 = controllers == ""
        if not is_v2 and controller not in controllers.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        if ".." in inner.parts:  # seen from inside a namespace: only its root is mounted
            inner = PurePosixPath()
        for place in (inner, *inner.parents):
            yield (cgroups if is_v2 else cgroups / controller) / place, is_v2


def _slurm_limits(environment: Mapping[str, str]) -> Iterator[MemoryLimit]:
    """The memory that a Slurm job asked for on this node, less what its processes take."""

    def number(name: str) -> float:
        text = environment.get(name, "")
        return float(text) if text.isdigit() else 0.0

    megabytes = number("SLURM_MEM_PER_NODE")
    megabytes = megabytes or number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE")
    megabytes = megabytes or number("SLURM_MEM_PER_GPU") * number("SLURM_GPUS_ON_NODE")
    if megabytes and (job := environment.get("SLURM_JOB_ID")):  # 0 stands for the whole node
        total = megabytes * 2**20
        yield MemoryLimit("slurm", total, max(0.0, total - _resident(job)))


def _resident(job: str) -> float:
    """Bytes that the processes of a Slurm job have in memory on this node."""
    total = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("SLURM_JOB_ID") == job:
                total += process.memory_info().rss
    return total


def _text(path: Path) -> str:
    """The content of a small file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
