import pandas as pd
import pytest

from lensllm.benchmarks import Benchmark
from lensllm.benchmarks.choosing import (
    campaigns,
    choosing_judge,
    random_sets,
    summarize_campaigns,
)
from lensllm.selection import ModelSize, OtherWinner, SubTuning

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


def build(settings):
    return SubTuning() if settings["good"] else ModelSize()


def test_better_choices_score_higher_on_the_same_sets(benchmark):
    judge = choosing_judge(build, (0.2, 0.4), n_subsets=3, subset_size=4, seed=1)
    good, bad = judge(benchmark, {"good": True}), judge(benchmark, {"good": False})
    assert len(good) == len(bad) == 2 * 2 * 3
    assert set(good["dataset"]) == {"x", "y"}
    assert (good["score"] == 1.0).all()
    assert (bad["score"] == 0.0).all()
    pd.testing.assert_frame_equal(good, judge(benchmark, {"good": True}))


def test_campaigns_are_compared_where_every_selector_could_pay(benchmark):
    sets = random_sets("abcdef", 3, 4, 0)
    assert random_sets("ab", 1, 4, 0)[0] in [("a", "b"), ("b", "a")]
    rows = campaigns(benchmark, [SubTuning(), ModelSize()], (0.001, 0.4), sets)
    assert len(rows) == 3 * 2 * 2 * 2
    summary = summarize_campaigns(rows, "sub_tuning").set_index("selector")
    assert summary.index.tolist() == ["sub_tuning", "model_size"]
    assert summary["n"].tolist() == [6, 6]  # sub_tuning cannot pay 0.1 %
    assert summary["relative_accuracy"].tolist() == [1.0, 0.0]
    assert summary["right"].tolist() == [1.0, 0.0]
    row = summary.loc["model_size"]
    assert (row["behind"], row["behind_lower"], row["behind_upper"]) == (1.0, 1.0, 1.0)
    assert 0 < summary.loc["sub_tuning", "cost_fraction"] <= 0.4


def test_the_other_data_sets_are_earlier_tasks_of_a_campaign(benchmark):
    sets = random_sets("abcdef", 2, 4, 0)
    rows = campaigns(benchmark, [OtherWinner()], (0.4,), sets, ["x"])
    assert rows["dataset"].tolist() == ["x", "x"]
    assert (rows["regret"] == 0).all()
