"""Choosing settings without the data set that they are judged on, and calibration."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from lensllm.evaluation import Benchmark
from lensllm.evaluation.statistics import reliability
from lensllm.predictors.draws import LossDraws
from lensllm.studies.selectors.calibration import calibrate
from lensllm.studies.selectors.tuned import JUDGES, best_in_top, bootstrap_over_models
from lensllm.studies.selectors.tuning import sample_settings, tune


def benchmark_of(datasets="xyz", n_models=5, sizes=(0, 200, 400, 800, 6400), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"m{i}", name, n, 0, float(4.0 * np.exp(0.3 * rng.standard_normal())))
        for name in datasets
        for i in range(n_models)
        for n in sizes
    ]
    columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
    return Benchmark("made", pd.DataFrame(rows, columns=columns))


def test_sampled_settings_are_distinct_and_begin_with_the_first_values():
    search = {"a": [1, 2, 3], "b": [10, 20]}
    some = sample_settings(search, 4, seed=0)
    assert some[0] == {"a": 1, "b": 10}
    assert len({tuple(item.values()) for item in some}) == 4
    assert len(sample_settings(search, 100, seed=0)) == 6
    with pytest.raises(ValueError, match=r"got none: \['b'\]"):
        sample_settings({"a": [1], "b": []}, 4, seed=0)


def test_what_is_held_out_is_neither_judged_nor_seen():
    seen = []

    def judge(benchmark, values):
        seen.append((benchmark.datasets, values["a"], values.get("c")))
        # `a` = 1 is best on x by far, `a` = 2 on y and z
        score = {"x": 10.0 * (values["a"] == 1), "y": values["a"] == 2, "z": values["a"] == 2}
        return pd.DataFrame({"dataset": n, "score": float(score[n])} for n in benchmark.datasets)

    base = {name: {"c": name} for name in ("x", "y", "z", "none")}
    found = tune(benchmark_of(), [{"a": 1}, {"a": 2}], judge, base)
    assert found.choice("x") == {"a": 2}
    assert found.choice("y") == found.choice("none") == {"a": 1}
    assert {names for names, _, held_out in seen if held_out == "x"} == {("y", "z")}
    assert {names for names, _, held_out in seen if held_out == "none"} == {("x", "y", "z")}
    assert not (found.scores["held_out"] == found.scores["dataset"]).any()
    with pytest.raises(ValueError, match="at least three data sets"):
        tune(benchmark_of("xy"), [{"a": 1}], judge)


@dataclass(frozen=True)
class Truthful:
    """Draws log losses about the truth, shifted by a draw of its own error."""

    truth: pd.DataFrame
    error: float
    claimed: float
    common: float = 0.0  # an error of all candidates, in every draw

    def draws(self, task, curves, sizes, *, n_draws, seed):
        assert curves["n_samples"].max() <= task.n_samples_full / 8
        rows = self.truth[self.truth["dataset"] == task.dataset].set_index("model")
        actual = np.log(rows["test_loss"].loc[list(task.names)].to_numpy())
        rng = np.random.default_rng([ord(task.dataset), 1])
        centre = actual + self.common + self.error * rng.standard_normal(len(actual))
        noise = self.claimed * rng.standard_normal((n_draws, len(actual), 1))
        return LossDraws(
            task.names, tuple(sizes), centre[:, None] + noise, np.zeros(len(task.names))
        )


def test_coverage_of_a_predictor_whose_error_is_known():
    benchmark = benchmark_of("pqrstuvw", n_models=200)
    truth = benchmark.curves[benchmark.curves["n_samples"] == 6400]
    found = calibrate(benchmark, Truthful(truth, 0.1, 0.1), (8,), n_draws=1000)
    assert found.coverage(0.8).mean() == pytest.approx(0.8, abs=0.03)
    assert found.coverage(0.95).mean() == pytest.approx(0.95, abs=0.02)
    narrow = calibrate(benchmark, Truthful(truth, 0.1, 0.05), (8,), n_draws=1000)
    assert narrow.coverage(0.8).mean() == pytest.approx(0.478, abs=0.04)  # 2 Φ(0.641) − 1
    assert narrow.interval_score(0.8).mean() > found.interval_score(0.8).mean()
    table = reliability(found.candidates, (0, 0.01, 0.1, 0.5, 1), "is_best")
    assert table["n"].sum() == len(found.candidates)
    assert (np.abs(table["said"] - table["true"]) < 0.35).all()
    assert found.candidates.groupby("dataset")["p_best"].sum().to_numpy() == pytest.approx(1.0)


def test_differences_do_not_see_what_is_wrong_for_all_candidates():
    benchmark = benchmark_of("pqrstuvw", n_models=200)
    truth = benchmark.curves[benchmark.curves["n_samples"] == 6400]
    shifted = Truthful(truth, 0.1, 0.1, common=1.0)
    assert calibrate(benchmark, shifted, (8,)).coverage(0.8).mean() < 0.01
    found = calibrate(benchmark, shifted, (8,), relative=True)
    assert found.coverage(0.8).mean() == pytest.approx(0.8, abs=0.03)


def predictions_of(scores, truths):
    rows = [
        ("held_out", "x", 0, 6400, size, f"m{i}", s, t)
        for size in scores
        for i, (s, t) in enumerate(zip(scores[size], truths, strict=True))
    ]
    columns = ["settings", "dataset", "seed", "n_samples_full", "max_n_samples"]
    return pd.DataFrame(rows, columns=[*columns, "model", "score", "true_loss"])


def test_true_best_among_the_predicted_top():
    table = predictions_of({200: [1, 2, 3, 4], 400: [4, 2, 3, 1]}, [1.0, 2.0, 3.0, 4.0])
    assert best_in_top(table, 3).tolist() == [True, False]
    assert best_in_top(table, 1).tolist() == [True, False]


def test_bootstrap_over_models_agrees_with_the_metrics():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    table = predictions_of({200: truth + 0.5 * rng.normal(size=40), 400: truth}, truth)
    found = bootstrap_over_models(table, 200)
    whole = [np.corrcoef(table["score"][:40], truth)[0, 1], 1.0]
    assert found["pearson"].mean() == pytest.approx(np.mean(whole), abs=0.02)
    assert 0.005 < found["pearson"].std() < 0.05
    assert (found["relative_accuracy"] <= 1.0).all()
    assert math.isfinite(found["relative_accuracy"].std())


@dataclass(frozen=True)
class Fixed:
    """A selector whose predictor is given."""

    predictor: Truthful


def test_choices_are_scored_by_how_probable_the_best_was_held():
    benchmark = benchmark_of("pqr", n_models=40)
    truth = benchmark.curves[benchmark.curves["n_samples"] == 6400]

    def score(error, claimed):
        predictor = Truthful(truth, error, claimed)
        judge = JUDGES["choices"](lambda values: Fixed(predictor), (8,), (None,))
        found = judge(benchmark, {})
        assert set(found["dataset"]) == set("pqr")
        return found["score"].mean()

    assert score(0.0, 1e-6) > -0.01
    assert score(0.0, 1e3) == pytest.approx(-math.log(8), abs=0.02)  # one of eight, blindly
    honest = score(0.1, 0.1)
    assert -math.log(8) < score(0.1, 0.02) < honest  # sure of a wrong one
    assert score(0.1, 0.5) < honest
