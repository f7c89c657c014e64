import math

import pandas as pd
import pytest

from lensllm.core.trials import TrialResult
from lensllm.selectors import ModelSize, SubTuning
from lensllm.studies.selectors.live import judge_live, summarize_live

SIZES = (0, 200, 400)


class LineRunner:
    """Losses of 4 - i - D / 1000 for the i-th candidate, at the task's costs."""

    def __init__(self, task):
        self._task = task

    def task(self):
        return self._task

    def run(self, trial):
        loss = 4.0 - self._task.names.index(trial.model) - trial.n_samples / 1000
        cost = self._task.costs[trial.model, trial.n_samples]
        return TrialResult(trial, "completed", loss, flops=cost)


def test_a_campaign_is_judged_by_the_truth_that_it_has_not_seen(make_task):
    task = make_task("abc", sizes=SIZES, full=800)
    truth = {"a": 2.0, "b": 3.0, "c": 2.5}
    row = judge_live(SubTuning(), LineRunner(task), 0.6, truth)
    assert (row["selected"], row["status"], row["n_trials"]) == ("c", "ranked", 3)
    assert row["regret"] == 0.5
    assert row["cost_fraction"] == pytest.approx(0.5)
    small = judge_live(SubTuning(), LineRunner(task), 0.01, truth)
    assert small["status"] == "budget too small"
    rows = pd.DataFrame([{"seed": 0, "candidates": "a b c", **small}])
    summary = summarize_live(rows, "sub_tuning")
    assert summary.loc[0, ["n", "right"]].tolist() == [0, 0.0]
    assert math.isnan(summary.loc[0, "cost_fraction"])
    assert math.isnan(small["regret"])
    assert judge_live(ModelSize(), LineRunner(task), 0.01, truth)["cost_fraction"] == 0.0


def test_summaries_are_paired_over_repetitions():
    rows = [
        {"seed": s, "candidates": "a b", "budget_fraction": 0.1, "selector": name}
        | {"regret": regret, "cost_fraction": 0.05}
        for s in range(6)
        for name, regret in (("x", 0.1 * s), ("y", 0.1 * s + 0.2), ("z", math.nan))
    ]
    found = summarize_live(pd.DataFrame(rows), "x").set_index("selector")
    assert list(found.index) == ["x", "y", "z"]
    assert found.loc["x", "regret"] == pytest.approx(0.25)
    assert found.loc["x", "regret_lower"] < 0.25 < found.loc["x", "regret_upper"]
    assert found.loc["x", "right"] == pytest.approx(1 / 6)
    for end in ("difference", "difference_lower", "difference_upper"):
        assert found.loc["y", end] == pytest.approx(0.2)
        assert found.loc["x", end] == 0.0
    assert found.loc["z", "n"] == 0
    assert math.isnan(found.loc["z", "regret_upper"])
