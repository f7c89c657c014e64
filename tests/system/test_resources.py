"""Memory, processors and GPUs, from control groups, Slurm's variables and the driver."""

import os
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from lensllm.system.resources import Gpu, MemoryLimit, main_memory, n_cpus, visible_gpus

GB = 10**9


@pytest.fixture
def cgroup(tmp_path):
    """Write files of control groups, and the file that says in which one this process is."""

    def write(membership, **files):
        for name, text in files.items():
            folder, _, file = name.replace("__", ".").rpartition("/")
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / file).write_text(f"{text}\n")
        (tmp_path / "membership").write_text(membership)
        return {"cgroups": tmp_path, "membership": tmp_path / "membership", "environment": {}}

    return write


def test_a_process_without_limits_has_what_the_machine_has(cgroup):
    given = cgroup("0::/\n", memory__max="max", memory__current=5)
    found = main_memory(**given)
    assert (found.source, found.total) == ("machine", psutil.virtual_memory().total)
    assert found.free == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert n_cpus(**given) == len(os.sched_getaffinity(0))


def test_the_tightest_group_of_version_two_counts_and_cached_files_are_free(cgroup):
    given = cgroup(
        "0::/slice/job/step\n",
        **{
            "slice/memory__max": 2 * GB,
            "slice/memory__current": 2 * GB - 10**8,
            "slice/memory__stat": f"anon 1\ninactive_file {3 * 10**8}",
            "slice/job/memory__max": GB,
            "slice/job/memory__current": 10**8,
            "slice/job/step/memory__max": "max",
            "slice/job/step/memory__current": 1,
            "slice/cpu__max": "150000 100000",
            "slice/job/cpu__max": "max 100000",
        },
    )
    assert main_memory(**given) == MemoryLimit("cgroup", 2 * GB, 4 * 10**8)
    assert n_cpus(**given) == 1


def test_version_one_is_read_where_the_controller_is(cgroup):
    given = cgroup(
        "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n",
        **{
            "memory/memory__limit_in_bytes": 9223372036854771712,
            "memory/memory__usage_in_bytes": 1,
            "memory/docker/abc/memory__limit_in_bytes": GB,
            "memory/docker/abc/memory__usage_in_bytes": 2 * GB,
            "cpu/docker/abc/cpu__cfs_quota_us": -1,
            "cpu/docker/abc/cpu__cfs_period_us": 100000,
        },
    )
    assert main_memory(**given) == MemoryLimit("cgroup", GB, 0.0)
    assert n_cpus(**given) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("path", ["/not/mounted/here", "/../../outside"])
def test_from_inside_a_container_its_root_counts(cgroup, path):
    given = cgroup(f"0::{path}\n", memory__max=GB, memory__current=GB // 4)
    assert main_memory(**given).free == GB - GB // 4


def test_unreadable_files_are_no_limit(cgroup):
    given = cgroup("nonsense\n0::/\n", memory__max="3 GB", memory__current="")
    assert main_memory(**given).source == "machine"


def test_a_slurm_job_has_what_it_asked_for_less_what_its_processes_take(cgroup, monkeypatch):
    given = cgroup("")
    one = SimpleNamespace(environ=lambda: {"SLURM_JOB_ID": "7"}, memory_info=lambda: memory)
    other = SimpleNamespace(environ=dict, memory_info=lambda: memory)
    memory = SimpleNamespace(rss=2**28)
    monkeypatch.setattr(psutil, "process_iter", lambda: [one, other, one])
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}
    for asked in ({"SLURM_MEM_PER_NODE": "1024"}, {"SLURM_MEM_PER_CPU": "1024"}):
        found = main_memory(**{**given, "environment": {**job, **asked}})
        assert found == MemoryLimit("slurm", 2.0**30, 2.0**29)
    whole = {**job, "SLURM_MEM_PER_NODE": "0"}
    assert main_memory(**{**given, "environment": whole}).source == "machine"
    assert n_cpus(**{**given, "environment": job}) == 1


def test_gpus_are_those_that_cuda_would_see(monkeypatch):
    memory = SimpleNamespace(total=80 * GB, free=60 * GB)
    for name, value in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetUUID": lambda i: f"GPU-{i}",
        "nvmlDeviceGetName": lambda i: b"A100",
        "nvmlDeviceGetMemoryInfo": lambda i: memory,
        "nvmlDeviceGetCudaComputeCapability": lambda i: (8, 0),
        "nvmlSystemGetDriverVersion": lambda: "550.1",
    }.items():
        monkeypatch.setattr(pynvml, name, value)
    second = Gpu(1, "A100", 80.0 * GB, 60.0 * GB, (8, 0), "550.1")
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == [second]
    assert [gpu.index for gpu in visible_gpus({})] == [0, 1, 2]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert [g.index for g in visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-2,0,9,1"})] == [2, 0]


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def absent():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert visible_gpus({}) == []
