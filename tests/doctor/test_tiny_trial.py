"""The tiny trial of `lensllm doctor`."""

import json
import math

import pytest

from lensllm.commands.cli import main
from lensllm.doctor import tiny_trial
from lensllm.doctor.tiny_trial import Place, trial_finding


def test_the_command_prints_a_line_each_and_writes_the_same_as_data(run_main, tmp_path, caplog):
    done = run_main(main, "doctor", f"paths.output_dir={tmp_path}")
    assert done.code == 0, done.out + done.err
    (path,) = tmp_path.rglob("doctor.json")
    record = json.loads(path.read_text())
    lines = [line for line in done.out.splitlines() if line[:4] in ("ok  ", "--  ", "!!  ")]
    assert [line[4:].partition(":")[0] for line in lines] == [
        finding["topic"] for finding in record["findings"]
    ]
    (trial,) = (f for f in record["findings"] if f["topic"] == "trial on cpu")
    numbers = trial["numbers"]
    assert numbers["loss_after"] < numbers["loss_before"]
    assert numbers["tokens_per_second"] > 100
    assert not caplog.records
    assert not (tmp_path / "trials").exists()


def test_a_device_that_fails_is_named_and_ends_in_an_exit_code(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_trial, "run_at", lambda *_, **__: 1 / 0)
    done = run_main(main, "doctor", f"paths.output_dir={tmp_path}")
    assert done.code == 1
    assert "!!  trial on cpu: ZeroDivisionError: division by zero; reinstall torch" in done.out
    assert not json.loads(next(tmp_path.rglob("doctor.json")).read_text())["usable"]


@pytest.mark.parametrize(
    ("before", "after", "on_cpu", "wrong"),
    [
        (4.0, 3.0, 3.02, ""),
        (4.0, 4.1, 4.1, "expected a loss that falls"),
        (4.0, math.nan, 3.0, "expected a loss that falls"),
        (4.0, 3.0, 3.3, "expected the loss of the CPU, 3.300"),
    ],
)
def test_losses_have_to_fall_and_to_be_those_of_the_cpu(before, after, on_cpu, wrong):
    place = Place("cuda:0", "bf16-mixed")
    finding = trial_finding(place, "m", before, after, 100.0, on_cpu)
    assert finding.level == ("broken" if wrong else "ok")
    assert finding.advice.startswith(wrong)
    json.dumps(finding.numbers, allow_nan=False)
