import numpy as np
import pandas as pd
import pytest

from lensllm.laws import RectifiedLaw, comparable_laws
from lensllm.reports.law_report import write_law_report

SIZES = 200 * 2 ** np.arange(8)


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    rows = []
    for model, params in (("a", [60.0, 0.5, 30.0, 1.0]), ("b", [40.0, 0.4, 20.0, 0.5])):
        losses = RectifiedLaw()(SIZES, params) * np.exp(0.005 * rng.standard_normal(8))
        rows += [
            {"model": model, "dataset": "toy", "n_samples": n, "seed": 0, "test_loss": loss}
            for n, loss in zip(SIZES, losses, strict=True)
        ]
    return pd.DataFrame(rows)


def test_one_law(curves, tmp_path):
    text = write_law_report(
        curves, [RectifiedLaw()], tmp_path, predict_at=[409600], target_loss=1.4
    )
    table = pd.read_csv(tmp_path / "fits.csv")
    assert table["model"].tolist() == ["a", "b"]
    assert {"loss_at_409600_lower", "n_samples_for_target_upper", "aicc"} <= set(table)
    assert (tmp_path / "figures" / "toy.png").is_file()
    assert not (tmp_path / "forward.csv").exists()
    assert f"{table['loss_at_409600_median'][0]:.5g} [" in text


def test_all_laws_are_compared(curves, tmp_path):
    text = write_law_report(curves, comparable_laws(), tmp_path, figures=False)
    table = pd.read_csv(tmp_path / "fits.csv")
    assert table.groupby("model").size().tolist() == [3, 3]
    assert "lowest AICc" in text
    assert "Forward validation" in text
    assert set(pd.read_csv(tmp_path / "forward.csv")["law"]) == {"rectified", "vanilla", "power"}


def test_a_single_model(curves, tmp_path):
    write_law_report(curves, [RectifiedLaw()], tmp_path, models=["b"], figures=False)
    assert pd.read_csv(tmp_path / "fits.csv")["model"].tolist() == ["b"]


def test_limit_of_sizes_is_that_of_the_fit(curves, tmp_path):
    write_law_report(curves, [RectifiedLaw()], tmp_path, max_n_samples=6400, figures=False)
    assert pd.read_csv(tmp_path / "fits.csv")["n_points"].tolist() == [6, 6]


def test_unknown_names(curves, tmp_path):
    with pytest.raises(ValueError, match="models a, b, got 'c'"):
        write_law_report(curves, [RectifiedLaw()], tmp_path, models=["c"])
