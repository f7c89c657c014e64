import pandas as pd
import pytest

from lensllm.core.prior_curves import PriorCurves

CURVES = pd.DataFrame(
    {
        "model": ["a", "a"],
        "dataset": ["x", "y"],
        "n_samples": [200, 200],
        "seed": [0, 0],
        "test_loss": [3.0, 2.0],
    }
)


def test_a_tasks_own_data_set_is_left_out():
    assert list(PriorCurves(CURVES).but("x")["dataset"]) == ["y"]


def test_what_is_computed_from_them_is_computed_once():
    prior, calls = PriorCurves(CURVES), []
    assert [prior.once("key", lambda: calls.append(1) or len(calls)) for _ in range(2)] == [1, 1]
    assert prior.once("other", lambda: 5) == 5


def test_they_are_read_from_a_file_that_must_be_there(tmp_path):
    CURVES.to_csv(tmp_path / "curves.csv", index=False)
    assert len(PriorCurves.read(tmp_path / "curves.csv").curves) == 2
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*absent.csv"):
        PriorCurves.read(tmp_path / "absent.csv")
