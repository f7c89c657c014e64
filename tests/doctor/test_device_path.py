"""The check of the GPU path, small, on a CPU: the code is alive, and its bounds can fail."""

import json

import pytest

from lensllm.commands.cli import main
from lensllm.doctor import device_path
from lensllm.doctor.device_path import SMALL, device_findings
from lensllm.doctor.tiny_trial import Place


@pytest.mark.slow
def test_all_checks_hold_on_a_cpu(run_main, tmp_path):
    done = run_main(main, "doctor", "device=cpu", f"paths.output_dir={tmp_path}")
    assert done.code == 0, done.out + done.err
    record = json.loads(next(tmp_path.rglob("doctor.json")).read_text())
    found = {f["topic"]: f for f in record["findings"] if f["topic"].startswith("cpu ")}
    assert list(found) == [
        "cpu bf16 checkpointing gpt2-48x2",
        "cpu bf16 lora gpt2-48x2",
        "cpu micro-batches",
        "cpu out of memory",
        "cpu resuming",
        "cpu speed random-64x2",
        "cpu NTK random-64x2",
    ]
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert found["cpu resuming"]["numbers"]["off"] == 0.0
    assert 0 < found["cpu bf16 checkpointing gpt2-48x2"]["numbers"]["off"] < 0.03


def test_a_check_out_of_bounds_an_error_and_the_end_of_time_are_told(monkeypatch):
    outcomes = iter([(False, "off", {"x": float("nan")}), (True, "fine", {"x": 1.0})])
    monkeypatch.setattr(device_path, "_profile", lambda *_: next(outcomes))
    monkeypatch.setattr(device_path, "_micro_batches", lambda *_: 1 / 0)
    for name in ("_out_of_memory", "_resuming", "_speed", "_ntk"):
        monkeypatch.setattr(device_path, name, lambda *_: (True, "fine", {}))
    found = list(device_findings(Place(), SMALL, minutes=1))
    assert [f.level for f in found[:3]] == ["broken", "ok", "broken"]
    assert found[0].numbers["x"] is None
    assert "ZeroDivisionError: division by zero" in found[2].line()
    late = list(device_findings(Place(), SMALL, minutes=-1))
    assert {f.text for f in late} == {"not run: the time is up"}


def test_without_a_gpu_its_check_is_broken(run_main, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run_main(main, "doctor", "device=gpu", f"paths.output_dir={tmp_path}")
    assert done.code == 1
    assert "!!  device: torch finds no GPU" in done.out
