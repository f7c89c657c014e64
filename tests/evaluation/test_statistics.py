import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lensllm.evaluation.statistics import (
    paired_bootstrap,
    paired_means,
    reliability,
    resampled_means,
    spearman_interval,
)


def predictions(scores, losses, datasets=("x",)):
    """One cell a data set; `scores` maps selector to (n_datasets, n_models)."""
    return pd.DataFrame(
        [
            {
                "dataset": ds,
                "seed": 0,
                "candidate_set": 0,
                "protocol": "papers",
                "budget_ratio": 8.0,
                "budget_fraction": np.nan,
                "selector": name,
                "model": f"m{i:02d}",
                "score": values[d][i],
                "true_loss": losses[d][i],
            }
            for d, ds in enumerate(datasets)
            for name, values in scores.items()
            for i in range(len(losses[d]))
        ]
    )


def test_means_and_intervals_against_a_plain_loop():
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(3, 12))
    scores = {"good": losses + 0.3 * rng.normal(size=(3, 12)), "bad": rng.normal(size=(3, 12))}
    found = paired_bootstrap(predictions(scores, losses, "xyz"), n_resamples=4000)

    def mean_regrets(rows):
        cells = [list(zip(v, losses, strict=True)) for v in scores.values()]
        return [np.mean([x[rows][s[rows].argmin()] - x[rows].min() for s, x in c]) for c in cells]

    draws = []
    for _ in range(4000):
        rows = rng.integers(0, 12, 12)
        draws.append(mean_regrets(rows))
    draws = np.array(draws)
    np.testing.assert_allclose(found.lower, np.percentile(draws, 2.5, axis=0), atol=0.06)
    np.testing.assert_allclose(found.upper, np.percentile(draws, 97.5, axis=0), atol=0.06)
    np.testing.assert_allclose(found.mean, mean_regrets(np.arange(12)))
    assert found.n_cells == 3
    assert not found.over_datasets


def test_equal_selectors_both_lead_and_a_hopeless_one_does_not():
    rng = np.random.default_rng(1)
    losses = rng.uniform(1, 2, size=(6, 30))
    scores = {"one": losses, "other": losses.copy(), "worst": -losses}
    found = paired_bootstrap(predictions(scores, losses, "abcdef"))
    assert found.leads.tolist() == [True, True, False]
    assert found.mean_rank.tolist() == [1.5, 1.5, 3.0]
    assert found.over_datasets
    accuracy = paired_bootstrap(predictions(scores, losses, "abcdef"), "relative_accuracy")
    assert accuracy.mean == pytest.approx([1.0, 1.0, 0.0])
    assert accuracy.leads.tolist() == [True, True, False]


def test_a_selector_that_rarely_answers_does_not_take_the_cells_from_the_others():
    rng = np.random.default_rng(3)
    losses = rng.uniform(1, 2, size=(4, 10))
    scores = {"often": losses, "always": -losses, "once": losses}
    table = predictions(scores, losses, "wxyz")
    table.loc[(table["selector"] == "often") & (table["dataset"] == "w"), "score"] = np.nan
    table.loc[(table["selector"] == "once") & (table["dataset"] != "z"), "score"] = np.nan
    found = paired_bootstrap(table, n_resamples=50)
    assert found.selectors == ("often", "always")
    assert found.n_cells == 3
    np.testing.assert_allclose(found.mean, [0.0, np.ptp(losses[1:], axis=1).mean()])


def test_cells_that_not_all_answered_do_not_count():
    losses = np.array([[1.0, 2.0], [1.0, 2.0]])
    table = predictions({"a": losses, "b": losses}, losses, "xy")
    table = table[(table["dataset"] == "x") | (table["selector"] == "a")]
    assert paired_bootstrap(table).n_cells == 1
    nothing = paired_bootstrap(table[(table["dataset"] == "y") | (table["selector"] == "b")])
    assert nothing.n_cells == 0
    assert np.isnan(nothing.mean).all()
    with pytest.raises(ValueError, match="got 'accuracy'"):
        paired_bootstrap(table, "accuracy")


def test_relative_accuracy_of_ties_alone_is_undefined():
    losses = np.ones((2, 3))
    table = predictions({"a": losses, "b": losses}, losses, "xy")
    found = paired_bootstrap(table, "relative_accuracy")
    assert np.isnan(found.mean).all()
    assert not found.leads.any()
    assert paired_bootstrap(table).leads.all()


def test_a_selector_that_ranked_nobody_is_left_out():
    losses = np.array([[1.0, 2.0, 3.0]])
    scores = {"a": losses, "none": np.full_like(losses, np.nan)}
    found = paired_bootstrap(predictions(scores, losses))
    assert found.selectors == ("a",)
    assert found.mean.tolist() == [0.0]
    assert found.leads.tolist() == [True]


def test_bootstrap_of_a_rank_correlation():
    x = pd.Series(np.arange(12.0))
    assert spearman_interval(x, -(x**3)) == pytest.approx((-1.0, -1.0))
    y = pd.Series(np.random.default_rng(0).permutation(12).astype(float))
    low, high = spearman_interval(x, y)
    assert low < stats.spearmanr(x, y).statistic < high


def test_intervals_of_means_are_those_of_scipys_percentile_bootstrap():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(40, 2)), columns=["x", "y"])
    found = paired_means(table, "x", 20_000, rng, level=0.9)
    for name, values in (("", table["y"]), ("difference_", table["y"] - table["x"])):
        interval = stats.bootstrap(
            (values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000
        ).confidence_interval
        assert found.loc["y", f"{name}lower"] == pytest.approx(interval.low, abs=0.01)
        assert found.loc["y", f"{name}upper"] == pytest.approx(interval.high, abs=0.01)
    assert found.loc["y", "difference"] == pytest.approx((table["y"] - table["x"]).mean())
    assert found.loc["x", ["difference", "difference_lower", "difference_upper"]].eq(0).all()


def test_rows_that_are_not_known_are_left_out_of_means():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    draws = resampled_means(values, 500, np.random.default_rng(0))
    assert set(np.unique(draws[:, 0][np.isfinite(draws[:, 0])])) <= {
        1,
        1.5,
        5 / 3,
        2,
        7 / 3,
        2.5,
        3,
    }
    assert np.isnan(draws[:, 1]).all()
    found = paired_means(
        pd.DataFrame(values, columns=["x", "y"]), "x", 50, np.random.default_rng(0)
    )
    assert found.loc["x", "mean"] == 2.0
    assert found.loc["y"].isna().all()


def test_rows_of_one_cluster_say_less_than_as_many_clusters():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(6, 1)), 50, axis=0)
    clusters = np.repeat(np.arange(6), 50)
    alone = resampled_means(values, 400, rng).std()
    whole = resampled_means(values, 400, rng, clusters).std()
    assert alone == pytest.approx(values.std() / np.sqrt(300), rel=0.15)
    assert whole == pytest.approx(values.std() / np.sqrt(6), rel=0.15)


def test_reliability_counts_what_was_said_and_what_was_true():
    rows = pd.DataFrame(
        {
            "p_best": [0.1, 0.15, 0.9, 0.95, math.nan],
            "right": [False, True, True, True, True],
            "n_sizes": [1, 1, 1, 2, 2],
        }
    )
    table = reliability(rows, (0, 0.2, 0.8, 1))
    assert table["said"].tolist() == pytest.approx([0.125, 0.925])
    assert table["true"].tolist() == [0.5, 1.0]
    assert table["n"].tolist() == [2, 2]
    assert reliability(rows, (0, 0.2, 0.8, 1), by=["n_sizes"])["n"].tolist() == [2, 1, 1]
