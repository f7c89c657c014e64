import math

import pandas as pd
import pytest

from lensllm.core.curves import read_curves
from lensllm.core.trials import Trial
from lensllm.execution import ReplayRunner


@pytest.fixture
def curves():
    rows = [
        (
            model,
            dataset,
            n,
            seed,
            loss + seed + (10 if dataset == "y" else 0),
            params,
            f"fam-{model}",
        )
        for model, params, losses in (
            ("a", 100.0, {0: 4.0, 200: 3.0, 400: 2.0}),
            ("b", 300.0, {0: 5.0, 200: 2.5, 400: 1.5}),
            ("c", math.nan, {200: 6.0, 400: 5.5}),
        )
        for dataset in ("x", "y")
        for seed in (0, 1)
        for n, loss in losses.items()
    ]
    columns = ["model", "dataset", "n_samples", "seed", "test_loss", "n_params", "family"]
    return pd.DataFrame(rows, columns=columns)


def test_losses_are_looked_up(curves):
    for dataset, seed, loss in (("x", 0, 2.5), ("x", 1, 3.5), ("y", 1, 13.5)):
        runner = ReplayRunner(curves, dataset, seed=seed)
        result = runner.run(Trial("b", dataset, 200, seed))
        assert (result.status, result.test_loss) == ("completed", loss)
    assert ReplayRunner(curves, "x").truth() == {"a": 2.0, "b": 1.5, "c": 5.5}


def test_sizes_candidates_and_costs(curves):
    task = ReplayRunner(curves, "x", tokens_per_sample=35.0, n_epochs=3.0).task()
    assert task.n_samples_full == 400
    assert task.available == {"a": (0, 200), "b": (0, 200), "c": (200,)}
    assert [c.family for c in task.candidates] == ["fam-a", "fam-b", "fam-c"]
    assert task.costs["a", 200] == 6 * 35 * 3 * 100 * 200
    assert task.costs["c", 400] == 6 * 35 * 3 * 200 * 400  # of unknown size: the others' mean
    assert task.costs["b", 0] == 0
    assert task.full_cost == pytest.approx(6 * 35 * 3 * 400 * (100 + 300 + 200))


def test_no_parameters_are_an_unknown_number_and_free_trials_are_refused(curves):
    task = ReplayRunner(curves.assign(n_params=curves["n_params"].fillna(0)), "x").task()
    assert task.costs == ReplayRunner(curves, "x").task().costs
    assert ReplayRunner(curves.assign(n_params=0), "x").task().costs["a", 400] == 6 * 400
    with pytest.raises(ValueError, match=r"cost > 0 .* on 400 samples of 'x', got 0 FLOPs"):
        ReplayRunner(curves, "x", tokens_per_sample=0.0)


def test_recorded_flops_are_the_costs(curves):
    table = curves.assign(flops=[1000.0 + i for i in range(len(curves))])
    runner = ReplayRunner(table, "x", seed=1)
    rows = table[(table["dataset"] == "x") & (table["seed"] == 1)]
    expected = {(r.model, r.n_samples): r.flops for r in rows.itertuples()}
    assert runner.task().costs == expected
    assert runner.run(Trial("c", "x", 400, 1)).flops == expected["c", 400]


def test_costs_of_two_kinds_are_not_mixed(curves, caplog):
    table = curves.assign(flops=1000.0)
    table.loc[(table["model"] == "b") & (table["n_samples"] == 0), "flops"] = math.nan
    assert ReplayRunner(table, "x").task().costs == ReplayRunner(curves, "x").task().costs
    assert "FLOPs of some points of x were not recorded" in caplog.text


def test_recorded_early_stopping_steps_are_passed_on(curves):
    steps = [float(i) for i in range(len(curves))]
    steps[0] = math.nan  # of a at D = 0
    runner = ReplayRunner(curves.assign(best_step=steps), "x")
    rows = curves[(curves["dataset"] == "x") & (curves["seed"] == 0)]
    place = rows.index[(rows["model"] == "b") & (rows["n_samples"] == 200)][0]
    assert runner.run(Trial("b", "x", 200)).best_step == place
    assert runner.run(Trial("a", "x", 0)).best_step == 0
    assert ReplayRunner(curves, "x").run(Trial("b", "x", 200)).best_step == 0


def test_a_smaller_full_size(curves):
    runner = ReplayRunner(curves, "x", n_samples_full=200)
    assert runner.task().available["a"] == (0,)
    assert runner.truth() == {"a": 3.0, "b": 2.5, "c": 6.0}


def test_an_unrecorded_truth_is_nan(curves):
    table = curves[~((curves["model"] == "c") & (curves["n_samples"] == 400))]
    assert math.isnan(ReplayRunner(table, "x").truth()["c"])


def test_what_was_not_recorded_is_refused(curves):
    with pytest.raises(ValueError, match="data sets x, y, got 'z'"):
        ReplayRunner(curves, "z")
    with pytest.raises(ValueError, match="seeds 0, 1 for 'x', got 7"):
        ReplayRunner(curves, "x", seed=7)
    with pytest.raises(ValueError, match="recorded sizes 0, 200, 400 of 'x', got 300"):
        ReplayRunner(curves, "x", n_samples_full=300)
    runner = ReplayRunner(curves, "x")
    for model, size in (("a", 100), ("d", 200), ("c", 0)):
        with pytest.raises(ValueError, match=f"got '{model}' at n_samples = {size} on 'x'"):
            runner.run(Trial(model, "x", size))


def test_the_callers_table_stays_as_it_was(curves):
    before = curves.copy()
    ReplayRunner(curves, "x").task()
    pd.testing.assert_frame_equal(curves, before)


def test_the_recorded_benchmark_replays(benchmark_dir):
    curves = read_curves(benchmark_dir / "rsl")
    runner = ReplayRunner(curves, "wmt19", tokens_per_sample=72)
    task = runner.task()
    assert len(task.candidates) == 30
    assert task.n_samples_full == 1638400
    rows = curves[(curves["dataset"] == "wmt19") & (curves["n_samples"] == 1638400)]
    assert runner.truth() == dict(zip(rows["model"], rows["test_loss"], strict=True))
    sizes = rows["n_params"].sum()
    assert task.full_cost == pytest.approx(6 * 72 * 1638400 * sizes)
