from dataclasses import replace

import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.studies.zoo.record import read_recorded_curves, write_recorded_curves

VERSIONS = {"torch": "1"}


def result(model="a", n_samples=200, loss=2.0, lr=1e-3, data="d0", day=1):
    settings = {"optimizer": {"lr": lr}, "data": data, "weights": f"w-{model}", "config": model}
    trial = Trial(model, "toy", n_samples, 0, settings)
    finished = f"2026-01-0{day}T00:00:00+00:00"
    return TrialResult(trial, "completed", loss, versions=VERSIONS, finished_at=finished)


def test_rows_are_kept_replaced_and_added(tmp_path):
    path = tmp_path / "curves.csv"
    write_recorded_curves([result(loss=2.0), result("b", loss=3.0)], path)
    new = [result("b", loss=2.5, day=3), result("a", 400, loss=1.5, day=2)]
    assert write_recorded_curves(new, path, extend=True) == 3
    notes, table = read_recorded_curves(path)
    rows = table[["model", "n_samples", "test_loss"]].values.tolist()
    assert rows == [["a", 200, 2.0], ["a", 400, 1.5], ["b", 200, 2.5]]
    assert notes["weights"] == {"a": "w-a", "b": "w-b"}
    assert notes["training"] == {"optimizer": {"lr": 1e-3}}
    assert [date[:10] for date in notes["finished"]] == ["2026-01-01", "2026-01-03"]


def test_without_extending_the_file_is_written_anew(tmp_path):
    path = tmp_path / "curves.csv"
    write_recorded_curves([result(), result("b")], path)
    assert write_recorded_curves([result("b")], path) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (result("b", lr=1e-4), "recorded training, .*0.001.*got .*0.0001"),
        (result("b", data="d1"), "'toy' with the recorded data fingerprints, d0, got d1"),
        (replace(result("b"), versions={"torch": "2"}), "recorded versions, .*'1'.*got .*'2'"),
    ],
)
def test_rows_made_otherwise_are_not_mixed_in(tmp_path, changed, message):
    path = tmp_path / "curves.csv"
    write_recorded_curves([result()], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_recorded_curves([changed], path, extend=True)
    assert path.read_bytes() == before


def test_nothing_to_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="finished trials to record, got none"):
        write_recorded_curves([], tmp_path / "curves.csv")
