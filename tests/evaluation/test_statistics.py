import numpy as np
import pandas as pd
import pytest

from lensllm.evaluation.statistics import paired_bootstrap


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
