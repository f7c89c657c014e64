"""The NTK study on curves whose law and NTK are known."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lensllm.curvature import NTKLoss
from lensllm.evaluation import Benchmark
from lensllm.laws import LensLLMLaw, RectifiedLaw, fit_laws
from lensllm.studies.curvature.hessian_study import (
    Analyses,
    gap_correlations,
    save_hessian_figure,
)
from lensllm.studies.curvature.ntk_figure import save_ntk_figure
from lensllm.studies.curvature.ntk_study import (
    NTKStudy,
    line_forward,
)

SIZES = np.array([0, 200, 400, 800, 1600, 3200, 6400])
RNG = np.random.default_rng(0)
NTK = {
    name: NTKLoss(np.sort(RNG.exponential(1.0, 8))[::-1], 4 * RNG.normal(size=8), 1e-3)
    for name in "abcd"
}


@pytest.fixture
def study():
    """Curves of LensLLM's law at t = 25, with a little noise."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "model": name,
            "dataset": "demo",
            "seed": seed,
            "n_samples": n,
            "test_loss": loss * math.exp(1e-4 * rng.normal()),
            "best_step": 25 if n else 0,
            "n_params": 1e6,
        }
        for i, name in enumerate(NTK)
        for seed in (0, 1)
        for n, loss in zip(
            SIZES, LensLLMLaw(NTK[name])(SIZES, [6.0 + i, 0.4, 25.0, 2.0 - 0.1 * i]), strict=True
        )
    ]
    return NTKStudy(Benchmark("demo", pd.DataFrame(rows)), "demo", NTK, (3, 4), (2.0,))


def test_terms_of_a_law_that_holds(study):
    terms = study.terms.set_index(["model", "seed"])
    for name in "abcd":
        row, true = terms.loc[(name, 0)], float(NTK[name](25.0))
        assert row["ntk_observed"] == pytest.approx(true)
        assert row["lensllm_term"] == pytest.approx(true, rel=0.05)
        assert row["pre_learned_size"] == pytest.approx(true, rel=0.05)
        assert row["transition_size"] == pytest.approx(true**2.5, rel=0.2)
        assert row["pre_learned_size_lower80"] < true < row["pre_learned_size_upper80"]
        assert not row["capped"]


@pytest.fixture
def analyses(tmp_path):
    """h = 2 n^(-1/4) with moves that grow as n^(1/8), so that h / |v|^2 falls as n^(-1/2)."""
    folder = tmp_path / "multirun" / "0_a"
    folder.mkdir(parents=True)
    decay = {"c2": 2.0, "beta2": 0.25, "beta2_error": None, "beta3": 0.625, "transition_size": 9.0}
    record = {"model": "a", "dataset": "demo", "decay": decay}
    (folder / "curvature.json").write_text(json.dumps(record))
    rows = [
        {
            "model": "a",
            "n_samples": n,
            "layer": layer,
            "hessian_max": factor * n**-0.25,
            "hessian_max_error": 0.01,
            "distance": n**0.125,
        }
        for n in (200, 3200)
        for layer, factor in (("embeddings", 1.0), ("h.0", 2.0))
    ]
    pd.DataFrame(rows).to_csv(folder / "layers.csv", index=False)
    sizes = {"model": "a", "n_samples": [200, 3200], "test_loss": [4.0, 3.0]}
    terms = {"training_loss": [3.5, 2.6], "empirical_term": [3.9, 2.9], "hessian_term": [0.5, 0.4]}
    pd.DataFrame({**sizes, **terms}).to_csv(folder / "sizes.csv", index=False)
    return Analyses(tmp_path / "multirun", "demo")


def test_tables_say_what_was_found(study, analyses, tmp_path):
    whole = replace(study, analyses=analyses)
    terms, transitions, forward, sweep, bound, layers = whole.tables()
    assert list(terms.frame["model"]) == list("abcd")
    assert set(terms.frame["at its cap"]) == {"0 of 2"}
    assert transitions.frame.set_index("model").loc["a", "beta_2"] == "0.25 ± –"
    assert transitions.frame.set_index("model").loc["b", "Hessian"] == "–"
    errors = forward.frame.set_index("law")["rmse_log"]
    assert errors["LensLLM, t observed"] < 0.002
    assert errors["line of Accept then Stop"] > 5 * errors["LensLLM, t observed"]
    assert list(zip(sweep.frame["gamma"], sweep.frame["tau"], strict=True)) == [
        ("3", "2"),
        ("4", "2"),
        ("rectified_fit", ""),
        ("ats", ""),
    ]
    # The rectified fit of these curves, and its error at D_full, by hand.
    losses = study.curves.pivot(index=["model", "seed"], columns="n_samples", values="test_loss")
    given = losses[[n for n in SIZES if n <= 1600]]
    fits = fit_laws(RectifiedLaw(), given.columns, given.to_numpy(), use_zero=True, n_starts=8)
    squares = np.log(fits.predict(6400)[:, 0] / losses[6400]) ** 2
    expected = np.sqrt(squares.groupby("seed").mean()).mean()
    assert sweep.frame.loc[2, "rmse_log"] == pytest.approx(expected, rel=1e-3)
    assert bound.frame.loc[0, "beta_2 of h / |v|^2"] == pytest.approx(0.5)
    assert bound.frame.loc[0, "largest h, D = 3200"] == f"{2 * 3200**-0.25:.2g}"
    assert bound.frame.loc[0, "test loss"] == 3.0
    assert layers.frame.loc[1, "h at D = 200"] == f"{2 * 200**-0.25:.2g} ± 0.01"
    assert save_ntk_figure(whole, tmp_path).stat().st_size > 10_000
    assert save_hessian_figure(analyses, tmp_path).stat().st_size > 10_000


def test_the_line_is_that_of_the_largest_sizes_alone():
    """On a power law the line is right at every size beyond, and has the columns of a law."""
    sizes = SIZES[1:]
    rows = {"model": "a", "dataset": "x", "seed": 0, "n_samples": sizes}
    table = pd.DataFrame({**rows, "test_loss": 5.0 * sizes**-0.1})
    found = line_forward(table)
    assert list(zip(found["max_n_samples"], found["n_samples"], strict=True)) == [
        (1600, 3200),
        (1600, 6400),
        (3200, 6400),
    ]
    assert np.abs(found["log_error"]).max() < 1e-12


def test_the_hessian_term_beside_the_gap():
    sizes = pd.DataFrame(
        {"n_samples": 200, "test_loss": [4.0, 3.0, 3.5, 3.2], "training_loss": [2.0, 2.9, 3.0, 3.0]}
    )
    gap = sizes["test_loss"] - sizes["training_loss"]
    text = gap_correlations(sizes.assign(hessian_term=gap**3))
    assert "1.00 [1.00, 1.00] at D = 200" in text
    assert "-1.00 [-1.00, -1.00]" in gap_correlations(sizes.assign(hessian_term=-gap))
    assert "Too few" in gap_correlations(sizes.assign(hessian_term=gap)[:2])


def test_analyses_of_another_data_set_are_left_out(study, analyses, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none: run lensllm curvature"):
        Analyses(tmp_path / "nothing", "demo")
    other = Analyses(analyses.folder, "other")
    assert other.paths == {}
    assert other.decay("a") == {}
    assert "Hessian" not in replace(study, analyses=other).transition_table().frame
