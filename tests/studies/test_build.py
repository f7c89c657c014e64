"""Tables and figures of small benchmarks, and the papers' tables on the recorded one."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.evaluation import Benchmark, load_rsl
from lensllm.selectors import AcceptThenStop, LastLine, RandomChoice, SubTuning, ZeroShot
from lensllm.studies.papers.build import build
from lensllm.studies.papers.lensllm_sweep import judge_cell, lensllm_table8, sweep_curves
from lensllm.studies.papers.lensllm_tables import lensllm_cost, lensllm_gamma_tau, lensllm_selection
from lensllm.studies.papers.rsl_tables import rsl_k_delta, rsl_table1
from lensllm.studies.papers.study import Study

SIZES = (0, *(200 * 2**i for i in range(8)))


@pytest.fixture
def study():
    rng = np.random.default_rng(0)
    curves = pd.DataFrame(
        [
            {
                "model": f"model-{i}",
                "dataset": ds,
                "n_samples": n,
                "seed": 0,
                "test_loss": (3.0 + 0.2 * i)
                * (n + 60.0) ** -(0.1 + 0.01 * i)
                * math.exp(0.003 * rng.normal()),
                "n_params": 10.0**6 * (i + 1),
            }
            for ds in ("x", "y")
            for i in range(6)
            for n in SIZES
        ]
    )
    selectors = [ZeroShot(), SubTuning(), AcceptThenStop(), LastLine(3), RandomChoice()]
    return Study(Benchmark("demo", curves), selectors, (4, 8), (0.05, 0.2), n_resamples=50)


def test_everything_twice_is_the_same_to_the_byte(study, tmp_path):
    first = build(study, "all", tmp_path / "a")
    again = Study(study.benchmark, study.selectors, (4, 8), (0.05, 0.2), n_resamples=50)
    second = build(again, "all", tmp_path / "b")
    names = [p.name for p in first]
    assert {"demo_summary.md", "demo_differences.tex", "demo_heat_maps.png"} <= set(names)
    assert names == [p.name for p in second]
    for left, right in zip(first, second, strict=True):
        assert left.read_bytes() == right.read_bytes(), left.name


def test_data_sets_too_small_for_a_forecast_are_drawn_without(study, tmp_path):
    small = study.benchmark.curves
    small = small[(small["dataset"] == "x") | (small["n_samples"] <= 800)]
    benchmark = Benchmark("demo", small)
    few = Study(benchmark, [SubTuning(), AcceptThenStop()], (4,), (0.05,), n_resamples=20)
    assert len(build(few, "all", tmp_path)) == 2 * 3 + 5


def test_papers_tables_need_the_papers_benchmark(study, tmp_path):
    with pytest.raises(ValueError, match="Expected benchmark=rsl for rsl_table1, got 'demo'"):
        build(study, "rsl_table1", tmp_path)
    with pytest.raises(
        ValueError, match=r"`table` to be all or one of summary, .*rsl_table1.* got 'table1'"
    ):
        build(study, "table1", tmp_path)


def test_summary_is_the_mean_of_the_scores(study, tmp_path):
    build(study, "summary", tmp_path)
    table = pd.read_csv(tmp_path / "demo_summary.csv")
    row = table[(table["protocol"] == "papers") & (table["selector"] == "ats")].iloc[0]
    scores = study.evaluation.scores
    scores = scores[(scores["protocol"] == "papers") & (scores["selector"] == "ats")]
    assert row["regret"] == pytest.approx(scores["regret"].mean(), abs=1e-9)
    assert row["cost %"] == pytest.approx(100 * scores["cost_fraction"].mean())


def test_table_1_has_no_difference_in_any_cell(benchmark_dir):
    study = Study(load_rsl(benchmark_dir), [], (8, 512))
    frame = rsl_table1(study).frame
    differences = frame[[c for c in frame.columns if c.endswith("difference")]]
    assert len(frame) == 2 * 3 * 2
    assert (differences == 0).all(axis=None)


def test_k_delta_has_no_difference(benchmark_dir):
    frame = rsl_k_delta(Study(load_rsl(benchmark_dir), [], (64,))).frame
    assert len(frame) == 15 * 3
    assert (frame["difference"].abs() <= 0.011).all()


@pytest.fixture
def sweep(tmp_path):
    """A store of four models at two settings; D = 0 was run once for both."""
    rng = np.random.default_rng(0)
    store = TrialStore(tmp_path / "sweep")
    for i, model in enumerate("abcd"):
        zero = Trial(model, "x", 0)
        store.add(TrialResult(zero, "completed", test_loss=4.0 + 0.1 * i, flops=1.0))
        for batch, rate in ((64, 1e-4), (128, 1e-3)):
            for n in (100, 200, 400, 800):
                settings = {"optimizer": {"lr": rate}, "training": {"batch_size": batch}}
                trial = Trial(model, "x", n, settings=settings)
                loss = (3.0 + rng.random()) * (n + 50) ** -0.1
                store.add(TrialResult(trial, "completed", test_loss=loss, flops=n))
    settings = {"optimizer": {"lr": 1.0}, "training": {"batch_size": 64}}
    store.add(TrialResult(Trial("a", "x", 100, settings=settings), "diverged", math.nan))
    return store


def test_table_8_by_hand(sweep, study, tmp_path):
    cells = sweep_curves(str(sweep.folder))
    assert list(cells) == [(64, 1e-4), (128, 1e-3)]
    assert [len(curves) for curves in cells.values()] == [20, 20]
    wide = cells[64, 1e-4].pivot_table(index="model", columns="n_samples", values="test_loss")
    found = judge_cell(cells[64, 1e-4])
    assert found["sub_tuning"] == pytest.approx(100 * np.corrcoef(wide[400], wide[800])[0, 1])
    assert found["loss at D_full"] == pytest.approx(wide[800].mean())
    line = [
        np.polyfit(np.log([100, 200, 400]), np.log(row), 1)
        for row in wide[[100, 200, 400]].to_numpy()
    ]
    predicted = [np.exp(np.polyval(coefficients, np.log(800))) for coefficients in line]
    assert found["ats"] == pytest.approx(100 * np.corrcoef(predicted, wide[800])[0, 1])
    table = lensllm_table8(replace(study, trials=str(sweep.folder)))
    row = table.frame.set_index(["batch size", "learning rate"]).loc[(64, "0.0001")]
    assert row["published"] == 78.41
    assert row["difference"] == pytest.approx(row["measured"] - 78.41)
    assert row["best"] == wide[800].idxmin()
    assert table.frame["measured"].notna().sum() == 2
    assert "4 models (a, b, c, d), x, D = 0, 100, 200, 400, 800, 1 seed" in table.caption


def test_table_8_is_drawn_where_it_was_measured(sweep, benchmark_dir, tmp_path):
    study = Study(load_rsl(benchmark_dir), [], (8,), trials=str(sweep.folder))
    for folder in ("a", "b"):
        names = [p.name for p in build(study, "lensllm_table8", tmp_path / folder)]
    assert names[-1] == "lensllm_table8.png"
    left, right = (tmp_path / folder / names[-1] for folder in ("a", "b"))
    assert left.read_bytes() == right.read_bytes()
    empty = replace(study, trials=str(tmp_path / "none"))
    assert len(build(empty, "lensllm_table8", tmp_path / "c")) == 3
    text = (tmp_path / "c" / "lensllm_table8.md").read_text()
    assert "nothing yet, run `lensllm train experiment=lensllm_table8` first" in text


def test_lensllm_tables_state_what_was_published(benchmark_dir):
    benchmark = load_rsl(benchmark_dir)
    curves = benchmark.curves[benchmark.curves["dataset"] == "flan"]
    few = curves[curves["model"].isin(sorted(curves["model"].unique())[:6])]
    study = Study(replace(benchmark, curves=few), [], (16, 512))
    selection = lensllm_selection(study).frame
    largest = selection[selection["dataset"] == "largest"].set_index("metric")
    assert largest["published"].to_dict() == {"pearson": 85.8, "relative_accuracy": 91.1}
    mine = selection[(selection["metric"] == "pearson") & (selection["dataset"] != "largest")]
    assert largest.loc["pearson", "lensllm_stand_in"] == mine["lensllm_stand_in"].max()
    cost = lensllm_cost(study).frame.set_index("selector")
    assert cost.loc["lensllm_stand_in", "D/16"] >= cost.loc["rectified_fit", "D/16"]
    assert cost.loc["lensllm_stand_in", "difference"] == pytest.approx(
        cost.loc["lensllm_stand_in", "D/16"] - 88.5
    )


def test_gamma_and_tau_beside_published(benchmark_dir):
    benchmark = load_rsl(benchmark_dir)
    few = sorted(benchmark.curves["model"].unique())[:4]
    curves = benchmark.curves
    curves = curves[curves["model"].isin(few) & (curves["dataset"] == "wmt19")]
    study = Study(replace(benchmark, curves=curves), [], (8,), gamma_tau_ratios=(512,))
    table = lensllm_gamma_tau(study)
    assert "12 of these 315 correlations exceed 100" in table.caption
    frame = table.frame.set_index(["gamma", "tau"])
    assert len(frame) == 15
    row = frame.loc[(4, 2)]
    assert (row["published"], row["AtS published"]) == (58.90, 59.15)
    assert row["difference"] == pytest.approx(row["pearson"] - 58.90)


def test_the_caption_says_how_to_make_the_table(study, tmp_path):
    build(replace(study, overrides=("n_resamples=50",)), "differences", tmp_path)
    command = "lensllm tables table=differences benchmark=demo n_resamples=50"
    for ending in ("md", "tex"):
        text = (tmp_path / f"demo_differences.{ending}").read_text().replace("\\_", "_")
        assert command in text
