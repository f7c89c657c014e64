import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lensllm.evaluation import Benchmark, evaluate, load_rsl
from lensllm.evaluation.cells import random_subsets
from lensllm.evaluation.evaluation import (
    PREDICTION_COLUMNS,
    SCORE_COLUMNS,
)
from lensllm.evaluation.metrics import expected_random
from lensllm.reports.summary import summary_table
from lensllm.selectors import (
    AcceptThenStop,
    LastLine,
    ModelSize,
    OtherWinner,
    RandomChoice,
    SubTuning,
    ZeroShot,
)

SIZES = (0, 100, 200, 400, 800, 1600)


def curves(models, datasets=("x", "y"), seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {
                "model": m,
                "dataset": ds,
                "n_samples": n,
                "seed": 0,
                "test_loss": (3.0 + i) * (n + 50) ** -0.2 * math.exp(0.002 * rng.normal()),
                "n_params": 10.0 * (i + 1),
            }
            for ds in datasets
            for i, m in enumerate(models)
            for n in SIZES
        ]
    )


def test_columns_and_values_of_one_cell():
    benchmark = Benchmark("demo", curves("abcd"))
    found = evaluate(benchmark, [SubTuning()], [8], datasets=["x"])
    assert list(found.scores.columns) == SCORE_COLUMNS
    assert list(found.predictions.columns) == PREDICTION_COLUMNS
    row = found.scores.iloc[0]
    table = benchmark.curves[benchmark.curves["dataset"] == "x"].set_index(["n_samples", "model"])
    at, truth = table.loc[200]["test_loss"], table.loc[1600]["test_loss"]
    assert row["max_n_samples"] == 200
    assert row["pearson"] == pytest.approx(stats.pearsonr(at, truth)[0])
    assert row["kendall"] == pytest.approx(stats.kendalltau(at, truth)[0])
    assert row["selected"] == at.idxmin()
    assert row["regret"] == pytest.approx(truth[at.idxmin()] - truth.min())
    assert row["cost_fraction"] == pytest.approx(200 / 1600)
    assert math.isnan(row["log_rmse"])
    assert row["n_trials"] == 4


def test_model_size_is_correlated_by_log_size():
    benchmark = Benchmark("demo", curves("abcd"))  # larger models are worse here
    row = evaluate(benchmark, [ModelSize()], [8], datasets=["x"]).scores.iloc[0]
    assert row["pearson"] > 0.9
    assert row["relative_accuracy"] == 0.0


def test_flops_are_spent_within_the_budget():
    selectors = [SubTuning(), LastLine(3), AcceptThenStop(), ZeroShot()]
    found = evaluate(Benchmark("demo", curves("abcd")), selectors, [], [0.05, 0.3, 0.6])
    spent = found.scores.dropna(subset=["cost_fraction"])
    assert (spent["cost_fraction"] <= spent["budget_fraction"] + 1e-12).all()
    poor = found.scores[found.scores["status"] == "budget too small"]
    assert set(poor["selector"]) == {"sub_tuning", "last_3_line", "ats"}
    assert (poor["budget_fraction"] == 0.05).all()
    assert poor["regret"].isna().all()


def test_other_winner_gets_the_other_data_sets_only():
    table = curves("abc")
    table.loc[(table["dataset"] == "y") & (table["model"] == "c"), "test_loss"] = 0.01
    found = evaluate(Benchmark("demo", table), [OtherWinner()], [8]).scores
    assert found.set_index("dataset")["selected"].to_dict() == {"x": "c", "y": "a"}


def test_hand_made_hard_cases(caplog):
    """Ties, one model, a missing cell, no truth, and models in some data sets only."""
    table = curves("abc", ("x", "one", "gap"))
    table = table[(table["dataset"] != "one") | (table["model"] == "a")]
    same = table["dataset"] == "x"
    table.loc[same, "test_loss"] = table.loc[same, "n_samples"].map(lambda n: 3 * (n + 50) ** -0.2)
    gone = (table["dataset"] == "gap") & (table["model"] == "b") & (table["n_samples"] == 200)
    no_truth = (table["dataset"] == "gap") & (table["model"] == "c") & (table["n_samples"] == 1600)
    table = table[~gone & ~no_truth]
    selectors = [ZeroShot(), SubTuning(), AcceptThenStop(), OtherWinner(), RandomChoice()]
    found = evaluate(Benchmark("demo", table), selectors, [2, 8])
    assert "Nothing to choose on one (seed 0)" in caplog.text
    assert "Nothing to choose on x (seed 0)" in caplog.text
    assert "Nothing to choose on gap" not in caplog.text
    rows = found.scores.set_index(["dataset", "budget_ratio", "selector"])
    tied = rows.loc["x"]
    assert (tied.loc[tied["status"] == "ranked", "regret"].abs() < 1e-12).all()
    assert tied["relative_accuracy"].isna().all()
    assert rows.loc[("x", 8, "zero_shot"), "selected"] == "a"
    assert rows.loc[("one", 2, "ats"), "regret"] == 0
    assert math.isnan(rows.loc[("one", 2, "ats"), "pearson"])
    assert rows.loc[("gap", 2, "ats"), "n_candidates"] == 2
    sub = found.predictions
    sub = sub[(sub["dataset"] == "gap") & (sub["selector"] == "sub_tuning")]
    assert sub[sub["budget_ratio"] == 8].set_index("model")["status"].to_dict() == {
        "a": "ranked",
        "b": "no trial at D = 200",
    }


def test_budgets_that_leave_nothing_to_do_are_told(caplog):
    few = curves("ab", ["x"]).query("n_samples in (400, 800, 1600)")
    found = evaluate(Benchmark("demo", few), [LastLine(2), ZeroShot()], [8], [0.01, 0.1])
    assert set(found.scores["protocol"]) == {"flops"}
    papers, flops = caplog.messages
    assert "smallest D is 400, above D_full / 8 = 200; `budget_ratios` can be up to 4" in papers
    assert "cost 25.0 % of fine-tuning them in full: try budget_fractions=[0.25,0.75]" in flops
    found = evaluate(Benchmark("demo", few), [LastLine(2)], [], [0.25, 0.75])
    assert found.scores["status"].tolist()[-1] == "ranked"
    assert caplog.messages == [papers, flops]


def test_who_answered_less_than_half_of_the_cells_is_summarised_last():
    """A line needs two sizes: it answers one cell of three, with less regret than one subset."""
    table = curves("abcd")
    table["test_loss"] += (table["model"] == "a") * (table["n_samples"] == 100) * 9.0
    found = evaluate(Benchmark("demo", table), [LastLine(2), SubTuning()], [16, 15, 2])
    summary = summary_table(found.scores, found.predictions, 10).frame.set_index("selector")
    assert summary["answered %"].round().to_dict() == {"sub_tuning": 100, "last_2_line": 33}
    assert summary.index.tolist() == ["sub_tuning", "last_2_line"]
    assert summary["regret"]["last_2_line"] < summary["regret"]["sub_tuning"]


def test_seeds_without_a_truth_are_left_out_and_named(caplog):
    whole = curves("abc", ("x", "y"))
    part = whole[(whole["dataset"] == "x") & (whole["n_samples"] < 1600)].assign(seed=1)
    benchmark = Benchmark("demo", pd.concat([part, whole]))
    found = evaluate(benchmark, [SubTuning()], [8])
    assert set(found.scores["seed"]) == {0}
    assert "Left out of x, since no loss at n_samples = 1600 was recorded: seeds 1" in caplog.text
    assert "out of y" not in caplog.text
    alone = evaluate(Benchmark("demo", whole), [SubTuning()], [8])
    pd.testing.assert_frame_equal(found.scores, alone.scores)
    with pytest.raises(ValueError, match=r"n_samples = 1600 on 'x' under seed 1, .*have one: 0"):
        benchmark.runner("x", seed=1)


def test_a_selector_of_ones_own_needs_no_registration():
    @dataclass(frozen=True)
    class Alphabetical(RandomChoice):
        def rank(self, task, curves):
            from lensllm.core.selection import RankedModel, Selection

            entries = [RankedModel(m, float(i)) for i, m in enumerate(sorted(task.names))]
            return Selection.of(self.name, task, entries)

    found = evaluate(Benchmark("demo", curves("cab")), [Alphabetical()], [8]).scores
    assert set(found["selector"]) == {"alphabetical"}
    assert (found["selected"] == "a").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([ZeroShot(), ZeroShot()],), "selectors with different names"),
        (([ZeroShot()], [1]), "D_full / D_max > 1, got 1"),
        (([ZeroShot()], [], [1.5]), r"fractions in \(0, 1\], got 1.5"),
        (([ZeroShot()], [8], [], ["z"]), "`datasets` among x, y, got 'z'"),
        (([ZeroShot()], [8], [], ["x"], [7]), "seeds with losses at D_full, 0, on 'x', got 7"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Benchmark("demo", curves("ab")), *arguments)


def test_random_subsets_are_distinct_and_keep_the_order():
    sets = random_subsets("dcba", 2, 5, np.random.default_rng(3))
    assert len(set(sets)) == 5
    assert all(len(s) == 2 and list(s) == sorted(s, reverse=True) for s in sets)
    assert sets == random_subsets("dcba", 2, 5, np.random.default_rng(3))
    assert random_subsets("ab", 0, 0, np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match=r"subsets of 2 to 3 of 4 candidates, got 4"):
        random_subsets("abcd", 4, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"at most 6 subsets of 2 candidates, got 7"):
        random_subsets("abcd", 2, 7, np.random.default_rng(0))


def test_sets_of_candidates_are_judged_one_by_one():
    benchmark = Benchmark("demo", curves("abcd"))
    found = evaluate(benchmark, [SubTuning()], [8], datasets=["x"], set_sizes=(None, 2), n_sets=3)
    assert found.scores["n_candidates"].tolist() == [4, 2, 2, 2]
    assert found.scores["candidate_set"].tolist() == [0, 1, 2, 3]
    assert found.predictions.groupby("candidate_set")["model"].nunique().tolist() == [4, 2, 2, 2]
    whole = evaluate(benchmark, lambda dataset: [SubTuning()], [8], datasets=["x"]).scores
    pd.testing.assert_frame_equal(found.scores[:1], whole)
    with pytest.raises(ValueError, match="selectors with different names"):
        evaluate(benchmark, lambda dataset: [SubTuning(), SubTuning()], [8])


def test_expected_random_is_the_mean_over_choices():
    truth = [3.0, 1.0, 2.0, 7.0]
    found = expected_random(truth)
    assert found["regret"] == pytest.approx(np.mean(truth) - 1.0)
    assert found["relative_accuracy"] == pytest.approx(np.mean([(7 - x) / 6 for x in truth]))
    assert found["top3_hit"] == 0.75


def test_order_of_rows_changes_nothing(benchmark_dir):
    benchmark = load_rsl(benchmark_dir)
    shuffled = Benchmark(
        "rsl",
        benchmark.curves.sample(frac=1.0, random_state=0),
        benchmark.n_samples_full,
        benchmark.tokens_per_sample,
        benchmark.n_epochs,
    )
    left, right = (evaluate(b, [AcceptThenStop()], [64]) for b in (benchmark, shuffled))
    pd.testing.assert_frame_equal(left.scores, right.scores)
    pd.testing.assert_frame_equal(left.predictions, right.predictions)


def test_each_data_set_has_the_others_as_earlier_tasks():
    known = []

    class Looking(RandomChoice):
        def rank(self, task, curves):
            known.append((task.dataset, set(task.prior_curves.curves["dataset"])))
            return super().rank(task, curves)

    rows = [
        {"model": m, "dataset": d, "n_samples": n, "seed": 0, "test_loss": x / n}
        for d in "xyz"
        for m, x in (("a", 200.0), ("b", 300.0))
        for n in (100, 200)
    ]
    evaluate(Benchmark("made", pd.DataFrame(rows)), [Looking()], [2])
    assert known == [("x", {"y", "z"}), ("y", {"x", "z"}), ("z", {"x", "y"})]
