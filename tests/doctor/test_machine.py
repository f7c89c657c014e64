"""Findings on packages, memory, disks and GPUs."""

import importlib.metadata

import pytest

from lensllm.doctor import machine
from lensllm.doctor.findings import Finding, as_record
from lensllm.system.resources import Gpu, MemoryLimit


def test_packages_that_every_command_needs_and_extras_are_told_apart(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [
            "numpy>=2.0",
            "scipy>=99",
            "absent>=1; extra == 'more'",
            "lensllm[more]; extra == 'all'",
            "numpy; extra == 'all'",
        ],
    )
    found = {finding.topic: finding for finding in machine.package_findings()}
    here = importlib.metadata.version("scipy")
    assert found["packages"].level == "broken"
    assert f"lacks scipy>=99 (here {here})" in found["packages"].text
    assert found["packages"].advice == "pip install -U 'scipy>=99'"
    assert found["extra more"].line() == (
        "--  extra more: lacks absent>=1; pip install 'lensllm[more]'"
    )
    assert found["extra all"].level == "ok"
    assert found["versions"].numbers["numpy"] == importlib.metadata.version("numpy")


def test_memory_names_what_limits_it(monkeypatch):
    monkeypatch.setattr(machine, "main_memory", lambda: MemoryLimit("cgroup", 4e9, 5e8))
    finding = machine.memory_finding()
    assert finding.level == "note"
    assert finding.text == "0.5 GB free of 4.0 GB, the limit of its container or job"


def test_disks_are_those_of_the_folders_which_are_not_made(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "there"
    assert machine.disk_finding("store", folder).level == "ok"
    assert not folder.exists()
    monkeypatch.setattr(machine, "LEAST_DISK", 1e18)
    scarce = machine.disk_finding("store", folder)
    assert (scarce.level, "paths.store_dir" in scarce.advice) == ("note", True)
    (tmp_path / "file").write_text("")
    broken = machine.disk_finding("cache", tmp_path / "file" / "cache")
    assert (broken.level, "paths.cache_dir" in broken.advice) == ("broken", True)


@pytest.mark.parametrize(("capability", "level"), [((8, 0), "ok"), ((7, 5), "note")])
def test_a_gpu_without_bf16_is_told_how_to_train(capability, level):
    (finding,) = machine.gpu_findings([Gpu(1, "T4", 16e9, 15e9, capability, "550")])
    assert (finding.topic, finding.level) == ("GPU 1", level)
    assert ("16-mixed" in finding.advice) == (level == "note")
    assert finding.numbers["bf16"] == (level == "ok")


def test_the_hub_is_not_asked_where_the_user_is_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in machine.hub_finding().text


def test_a_machine_is_usable_unless_something_needed_is_broken():
    fine = [Finding("a", "ok", "x"), Finding("b", "note", "y", "z", {"n": 1})]
    assert as_record(fine)["usable"]
    assert as_record(fine)["findings"][1]["numbers"] == {"n": 1}
    assert not as_record([*fine, Finding("c", "broken", "w")])["usable"]
