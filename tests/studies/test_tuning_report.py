"""The report of tuned settings, from a small made benchmark to tables and a figure."""

import numpy as np
import pandas as pd
import pytest

from lensllm.evaluation import Benchmark, evaluate
from lensllm.predictors.pooled import PooledPredictor, PooledSettings
from lensllm.selectors import AcceptThenStop, PooledFit
from lensllm.studies.selectors.tuned import JUDGES, judge_choices, spread_judge
from lensllm.studies.selectors.tuning import tune
from lensllm.studies.selectors.tuning_report import Example, write_tuning_report

SIZES = [200, 400, 800, 1600, 3200, 6400]


@pytest.fixture(scope="module")
def benchmark_made():
    """Lines on log-log axes with noise, six candidates of three families."""
    rng = np.random.default_rng(0)
    rows = []
    for dataset in "xyz":
        for i in range(6):
            slope, level = rng.uniform(0.03, 0.09), rng.uniform(3, 4)
            for k, n in enumerate(SIZES):
                loss = level * np.exp(-slope * k + 0.003 * rng.standard_normal())
                rows.append((f"m{i}", dataset, n, 0, loss, f"f{i // 2}"))
    columns = ["model", "dataset", "n_samples", "seed", "test_loss", "family"]
    return Benchmark("made", pd.DataFrame(rows, columns=columns))


def build(values):
    return PooledFit(PooledPredictor(PooledSettings(**values)), n_draws=100)


def test_from_choices_to_tables_and_a_figure(benchmark_made, tmp_path):
    alone = {"task_correlation": 0.0, "bias_correlation": 0.0}  # the tasks have nothing in common
    grid = [{"decay": 0.3, **alone}, {"decay": 0.6, **alone}]
    ranked = tune(benchmark_made, grid, JUDGES["ranking"](build, (4, 8), (None,)))
    assert set(ranked.chosen) == {"x", "y", "z", "none"}
    assert ranked.scores["score"].between(-1, 2).all()
    choices = {name: ranked.choice(name) for name in ranked.chosen}
    spread = [{"inflation": 0.01}, {"inflation": 1.0}]
    widened = tune(benchmark_made, spread, spread_judge(build, (4, 8), (None,)), choices)
    assert set(widened.chosen.values()) == {1}  # intervals without width miss nearly all
    apart = [
        {"slope_spreads": [4.0], "slope_uncertainty": 0.01, **alone},
        {"slope_spreads": [0.2], **alone},
    ]
    differing = tune(benchmark_made, apart, JUDGES["differences"](build, (16, 32), (None,)))
    assert set(differing.chosen.values()) == {1}  # one point, or two, say little of a slope
    judged = judge_choices(benchmark_made, choices, build, (4, 8), (None, 3200))
    runner = benchmark_made.runner("x")
    example = Example(runner, PooledPredictor(), ratio=4, n_models=3)
    baseline = evaluate(benchmark_made, [AcceptThenStop()], (4, 8)).scores
    tables = {
        table.name: table.frame
        for table in write_tuning_report(judged, baseline, example, tmp_path)
    }
    datasets = tables["tuning_datasets"]
    assert datasets["data set"].tolist() == ["x", "y", "z", "all"] * 2
    held_out = judged.scores[
        (judged.scores["settings"] == "held_out") & (judged.scores["n_samples_full"] == 6400)
    ]
    assert datasets["Pearson"][3] == pytest.approx(100 * held_out["pearson"].mean())
    assert tables["tuning_targets"].columns.tolist() == ["dataset", "3200", "6400", "mean"]
    assert tables["tuning_reliability"]["n"].sum() == 6 * len(held_out)
    assert (tmp_path / "pooled.png").stat().st_size > 10_000
    assert (tmp_path / "tuning_budgets.md").is_file()
