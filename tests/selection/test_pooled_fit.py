"""All affordable sizes, predicted together."""

import math

import numpy as np
import pandas as pd
import pytest

from lensllm.predictors import CurvePredictor
from lensllm.selection import Budget, BudgetTooSmallError, Candidate, PooledFit, Task

SIZES = (200, 400, 800, 1600, 3200)
FULL = 51200


def curves_of(slopes, dataset="demo", sizes=SIZES):
    """log L = 1 - slope · log2(D / 200)."""
    rows = [
        (model, dataset, n, 0, math.exp(1.0 - slope * math.log2(n / 200)), model[0])
        for model, slope in slopes.items()
        for n in sizes
    ]
    columns = ["model", "dataset", "n_samples", "seed", "test_loss", "family"]
    return pd.DataFrame(rows, columns=columns)


def task_of(names):
    return Task(
        "demo",
        tuple(Candidate(name, 1e6, name[0]) for name in names),
        FULL,
        dict.fromkeys(names, (0, *SIZES)),
        {(name, n): float(n) for name in names for n in (0, *SIZES, FULL)},
    )


SLOPES = {"a1": 0.05, "a2": 0.08, "b1": 0.03, "b2": 0.06}


def test_ranks_by_predicted_loss_with_intervals_and_probabilities():
    selection = PooledFit().rank(task_of(SLOPES), curves_of(SLOPES))
    assert [entry.model for entry in selection.ranking] == ["a2", "b2", "a1", "b1"]
    assert sum(entry.p_best for entry in selection.ranking) == pytest.approx(1.0)
    for entry in selection.ranking:
        assert entry.lower80 < entry.predicted_loss < entry.upper80
    assert selection.reason.startswith("a2 is ranked first, with a predicted loss at D = 51200")


def test_wants_every_affordable_size_but_zero():
    task = task_of(SLOPES)
    asked = PooledFit().wants(task, curves_of({}), Budget(max_n_samples=800))
    assert asked == [(name, n) for name in SLOPES for n in (200, 400, 800)]
    asked = PooledFit().wants(task, curves_of({}), Budget(flops=4 * 600.0))
    assert asked == [(name, n) for name in SLOPES for n in (200, 400)]
    with pytest.raises(BudgetTooSmallError, match="at least 800 FLOPs"):
        PooledFit().wants(task, curves_of({}), Budget(flops=700.0))


def test_candidates_that_failed_come_last():
    table = curves_of(SLOPES)
    table.loc[table["model"] == "a2", "test_loss"] = math.nan
    selection = PooledFit().rank(task_of(SLOPES), table)
    assert selection.ranking[-1].model == "a2"
    assert selection.ranking[-1].status == "no usable trial"
    table["test_loss"] = math.nan
    nothing = PooledFit().rank(task_of(SLOPES), table)
    assert {entry.status for entry in nothing.ranking} == {"no usable trial"}


def test_earlier_tasks_tell_of_a_candidate_with_one_point():
    """Where levels agree, the candidate that falls off later on an earlier task does so here."""
    rng = np.random.default_rng(0)
    slopes = {f"{c}{i}": 0.06 + 0.01 * rng.standard_normal() for c in "ab" for i in range(5)}
    here, before = curves_of(slopes), curves_of(slopes, "before", (*SIZES, 12800, FULL))
    for table in (here, before):
        spread = table["model"].map({name: 0.1 * k for k, name in enumerate(slopes)})
        table["test_loss"] *= np.exp(spread)
    falls = (before["model"] == "b4") & (before["n_samples"] == FULL)
    before.loc[falls, "test_loss"] *= math.exp(-1.0)
    task = task_of(slopes)
    alone, given = (
        {e.model: e.predicted_loss for e in PooledFit(predictor).rank(task, here).ranking}
        for predictor in (CurvePredictor(), CurvePredictor(prior_curves=before))
    )
    assert given["b4"] < 0.9 * alone["b4"]
    assert given["a0"] == pytest.approx(alone["a0"], rel=0.1)


def test_earlier_tasks_can_be_a_file_and_leave_out_the_task_itself(tmp_path):
    path = tmp_path / "curves.csv"
    curves_of({name: 0.1 - slope for name, slope in SLOPES.items()}).to_csv(path, index=False)
    alone = PooledFit().rank(task_of(SLOPES), curves_of(SLOPES))
    given = PooledFit(CurvePredictor(prior_curves=str(path))).rank(
        task_of(SLOPES), curves_of(SLOPES)
    )
    assert alone == given
