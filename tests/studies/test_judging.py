import math

import pandas as pd
import pytest

from lensllm.evaluation import Benchmark, evaluate
from lensllm.evaluation.cells import candidate_sets
from lensllm.selectors import Adaptive, ModelSize, SubTuning
from lensllm.studies.selectors.judging import campaigns, coverage, summarize, unseen

SIZES = (200, 400, 800, 1600)


@pytest.fixture
def benchmark():
    """Losses in the order of the candidates at every size; parameters grow with the loss."""
    rows = [
        {"model": m, "dataset": d, "n_samples": n, "seed": 0, "n_params": 10.0 * (i + 1)}
        | {"test_loss": (3.0 + i) * n**-0.1}
        for d in ("x", "y")
        for i, m in enumerate("abcdef")
        for n in SIZES
    ]
    return Benchmark("demo", pd.DataFrame(rows))


def judge(benchmark, selectors, fractions, set_sizes):
    found = evaluate(benchmark, selectors, (), fractions, set_sizes=set_sizes)
    return campaigns(found.scores)


def test_sets_are_all_candidates_and_distinct_names(benchmark):
    sets = list(candidate_sets(benchmark, "x", 0, (None, 4, 6), 2))
    assert sets[0] is None
    assert [len(names) for names in sets[1:]] == [4, 4]
    assert all(len(set(names)) == 4 for names in sets[1:])


def test_campaigns_are_judged_against_the_truth(benchmark):
    rows = judge(benchmark, lambda name: [SubTuning(), ModelSize(), Adaptive()], (0.4,), (None, 4))
    assert len(rows) == 2 * 2 * 3
    by = rows.groupby("selector")
    assert by["regret"].max()["sub_tuning"] == 0
    largest = rows[(rows["selector"] == "model_size") & (rows["n_candidates"] == 6)]
    assert largest["regret"].tolist() == pytest.approx([5 * 1600**-0.1] * 2)
    assert (largest["relative_regret"] == 1.0).all()
    own = rows[rows["selector"] == "adaptive"]
    assert own["right"].all()
    assert set(own["verdict"]) <= {"clear", "too_close_to_call", "not_enough_evidence"}
    assert (own["held"] == 1.0).all()
    assert own["coverage80"].between(0, 1).all()
    assert (own["cost_fraction"] <= 0.4).all()


def test_a_budget_that_is_too_small_counts_as_the_first_ones_answer(benchmark):
    rows = judge(benchmark, lambda name: [ModelSize(), SubTuning()], (0.001,), (None,))
    assert rows["paid"].tolist() == [True, False] * 2
    assert rows["regret"].nunique() == 1


def test_means_and_differences_with_intervals(benchmark):
    rows = judge(benchmark, lambda name: [SubTuning(), ModelSize()], (0.2, 0.4), (None,))
    table = summarize(rows, "relative_regret", "sub_tuning").set_index(
        ["budget_fraction", "selector"]
    )
    assert set(table.index.get_level_values(0)) == {0.2, 0.4, "all"}
    row = table.loc[("all", "model_size")]
    assert (row["mean"], row["lower"], row["upper"]) == (1.0, 1.0, 1.0)
    assert (row["behind"], row["behind_lower"], row["behind_upper"]) == (1.0, 1.0, 1.0)


def test_coverage_is_a_mean_over_the_campaigns_of_a_data_set():
    rows = pd.DataFrame(
        {
            "selector": ["a", "a", "a", "b"],
            "dataset": ["x", "x", "y", "x"],
            "coverage80": [0.5, 1.0, 0.8, math.nan],
        }
    )
    table = coverage(rows)
    assert table.to_dict("list") == {
        "selector": ["a", "a"],
        "dataset": ["x", "y"],
        "coverage80": [0.75, 0.8],
        "n": [2, 1],
    }


def test_a_judged_selector_has_a_prior_without_the_task():
    names = set(unseen([Adaptive()], "wiki")[0].predictor.prior.names)
    assert "wiki" not in names
    assert "docstrings" in names
    assert isinstance(unseen([SubTuning()], "wiki")[0], SubTuning)
