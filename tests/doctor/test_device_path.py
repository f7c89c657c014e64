"""The check of the GPU path, small, on a CPU: the code is alive, and its bounds can fail."""

import json

import pytest

from lensllm.commands.cli import main
from lensllm.doctor import device_path
from lensllm.doctor.device_path import FULL, PROFILES, SMALL, device_findings, topics
from lensllm.doctor.tiny_trial import Place

SIZES = ("768x14", "2048x18")


@pytest.mark.slow
def test_all_checks_hold_on_a_cpu(run_main, tmp_path):
    done = run_main(main, "doctor", "device=cpu", "minutes=60", f"paths.output_dir={tmp_path}")
    assert done.code == 0, done.out + done.err
    record = json.loads(next(tmp_path.rglob("doctor.json")).read_text())
    found = {f["topic"]: f for f in record["findings"] if f["topic"].startswith("cpu ")}
    assert list(found) == [
        "cpu trainer=a100 gpt2-48x2",
        "cpu trainer=a100 lora gpt2-48x2",
        "cpu micro-batches",
        "cpu out of memory",
        "cpu resuming",
        "cpu speed random-64x2",
        "cpu NTK random-64x2",
        "cpu trainer=gpu random-64x2",
    ]
    assert {finding["level"] for finding in found.values()} == {"ok"}, done.out
    assert found["cpu resuming"]["numbers"]["off"] == 0.0
    assert 0 < found["cpu trainer=a100 gpt2-48x2"]["numbers"]["off"] < 0.03
    assert found["cpu out of memory"]["numbers"]["n_times"] > 0
    speed = found["cpu speed random-64x2"]["numbers"]
    assert speed["utilisation"] is None  # no data sheet of a CPU
    assert speed["ratio_to_trainer"] == pytest.approx(
        speed["tokens_per_second"] / speed["trainer"]
    )  # one round
    table = next(tmp_path.rglob("doctor.md")).read_text()
    assert all(f"| {topic} |" in table for topic in found)


def test_a_check_out_of_bounds_and_an_error_are_told(monkeypatch):
    outcomes = iter([(False, "off", {"x": float("nan")}), (True, "fine", {"x": 1.0})])
    monkeypatch.setattr(device_path, "_profile", lambda *_: next(outcomes))
    monkeypatch.setattr(device_path, "check_search", lambda *_: 1 / 0)
    for name in ("check_recovery", "_resuming", "check_speed", "_ntk", "_random_profile"):
        monkeypatch.setattr(device_path, name, lambda *_: (True, "fine", {}))
    found = list(device_findings(Place(), SMALL))
    assert [f.topic for f in found] == topics(Place(), SMALL)
    assert [f.level for f in found[:3]] == ["broken", "ok", "broken"]
    assert found[0].numbers["x"] is None
    assert "ZeroDivisionError: division by zero" in found[2].line()
    assert [f.topic for f in device_findings(Place(), SMALL, 3)] == topics(Place(), SMALL)[3:]


def test_a_gpu_is_asked_for_all_that_a_cpu_cannot_tell():
    """Each model under each profile, compiled, the estimate of memory, at both sizes."""
    asked = topics(Place("cuda:0"), FULL)
    assert len(asked) == len(set(asked))
    for words in (
        *(f"{profile} {name}" for profile in PROFILES for name in FULL.zoo),
        f"trainer=gpu compile {FULL.zoo[0]}",
        "micro-batches",
        "out of memory",
        "resuming",
        "NTK random-768x14",
        *(f"{what} random-{size}" for what in ("speed", "memory") for size in SIZES),
        *(f"{profile} random-{size}" for profile in FULL.random_profiles for size in SIZES),
    ):
        assert f"cuda:0 {words}" in asked


def test_without_a_gpu_its_check_is_broken(run_main, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run_main(main, "doctor", "device=gpu", f"paths.output_dir={tmp_path}")
    assert done.code == 1
    assert "!!  device: torch finds no GPU" in done.out
