import numpy as np
import pandas as pd
import pytest

from lensllm.laws import RectifiedLaw, comparable_laws
from lensllm.reports.law_report import _transition_notes, write_law_report

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
    assert f"{table['loss_at_409600'][0]:.5g} [" in text
    assert table["loss_at_409600_lower"][0] < table["loss_at_409600"][0]
    assert table["loss_at_409600_fit"][0] == pytest.approx(table["loss_at_409600"][0], rel=0.1)
    assert "median and 80% interval of the posterior" in text


def test_all_laws_are_compared(curves, tmp_path):
    text = write_law_report(curves, comparable_laws(), tmp_path, figures=False)
    table = pd.read_csv(tmp_path / "fits.csv")
    assert table.groupby("model").size().tolist() == [3, 3]
    assert "lowest AICc" in text
    assert "Forward validation" in text
    assert set(pd.read_csv(tmp_path / "forward.csv")["law"]) == {"rectified", "vanilla", "power"}


def test_few_sizes_have_no_winner_and_no_forward_validation(curves, tmp_path):
    short = curves[curves["n_samples"] <= 800]
    text = write_law_report(short, comparable_laws(), tmp_path, figures=False)
    table = pd.read_csv(tmp_path / "fits.csv").set_index(["model", "law"])
    assert table.loc[("a", "rectified"), ["aic", "aicc", "bic"]].isna().all()
    assert np.isfinite(table.loc[("a", "power"), "aic"])
    assert "Forward validation left out: it needs 4 sizes or more" in text
    assert "lowest AICc" not in text
    five = curves[curves["n_samples"] <= 1600]
    text = write_law_report(five, comparable_laws(), tmp_path, forward=False, figures=False)
    assert "too few points for the AICc of every fitted law: 2" in text


def test_what_few_points_cannot_choose_is_said(curves, tmp_path):
    """Seven points: AICc prefers the power law to the one that made the curve."""
    rows = curves[(curves["model"] == "a") & (curves["n_samples"] <= 12800)].copy()
    rows["test_loss"] = RectifiedLaw()(rows["n_samples"], [60.0, 0.5, 30.0, 1.0])
    rows["test_loss"] *= 1 + 0.003 * (-1.0) ** np.arange(len(rows))
    text = write_law_report(rows, comparable_laws(), tmp_path, figures=False, predict_at=[5e4])
    assert "with so few points AICc favours few parameters" in text
    four = rows[rows["n_samples"] <= 1600]
    text = write_law_report(four, comparable_laws(), tmp_path, figures=False, predict_at=[5e4])
    assert "Left out of it: rectified, which needs 5 sizes or more" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("size", "notes"),
    [
        (np.nan, []),
        (0.0, ["no pre-power phase"]),
        (400.0, ["transition at 400 samples"]),
        (3200.0, ["transition at 3.2k samples, beyond all data"]),
    ],
)
def test_a_panel_says_where_the_transition_is(size, notes):
    assert _transition_notes(size, 1600) == notes


def test_a_single_model(curves, tmp_path):
    write_law_report(curves, [RectifiedLaw()], tmp_path, models=["b"], figures=False)
    assert pd.read_csv(tmp_path / "fits.csv")["model"].tolist() == ["b"]


def test_limit_of_sizes_is_that_of_the_fit(curves, tmp_path):
    write_law_report(curves, [RectifiedLaw()], tmp_path, max_n_samples=6400, figures=False)
    assert pd.read_csv(tmp_path / "fits.csv")["n_points"].tolist() == [6, 6]


def test_unknown_names(curves, tmp_path):
    with pytest.raises(ValueError, match="models a, b, got 'c'"):
        write_law_report(curves, [RectifiedLaw()], tmp_path, models=["c"])
