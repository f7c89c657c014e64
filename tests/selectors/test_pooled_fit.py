"""The pooled predictor as a selector, with earlier tasks, and on the recorded benchmark."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.task import Budget, BudgetTooSmallError, Candidate, Task
from lensllm.predictors.pooled import PooledPredictor, PooledSettings
from lensllm.reports.words import decision_words, reason_words
from lensllm.selectors import PooledFit

SIZES = (200, 400, 800, 1600, 3200)
FULL = 51200


def curves_of(slopes, dataset="demo", sizes=SIZES, bends=None):
    """log L = 1 − slope · log2(D / 200) − bend · (log2 D / 3200)² beyond 3200."""
    rows = []
    for model, slope in slopes.items():
        for n in sizes:
            k, beyond = math.log2(n / 200), max(math.log2(n / 3200), 0.0)
            loss = math.exp(1.0 - slope * k - (bends or {}).get(model, 0.0) * beyond**2)
            rows.append((model, dataset, n, 0, loss, model[0]))
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
    selection = PooledFit(n_draws=1000).rank(task_of(SLOPES), curves_of(SLOPES))
    assert [entry.model for entry in selection.ranking] == ["a2", "b2", "a1", "b1"]
    assert sum(entry.p_best for entry in selection.ranking) == pytest.approx(1.0)
    for entry in selection.ranking:
        assert entry.lower80 < entry.predicted_loss < entry.upper80
    assert "shared exponent" in decision_words(selection)[0]
    assert reason_words(selection).startswith(
        "a2 is ranked first, with a predicted loss at D = 51200"
    )


def test_asks_for_every_affordable_size_but_zero():
    task = task_of(SLOPES)
    trials = PooledFit().ask(task, curves_of({}), Budget(max_n_samples=800)).trials
    assert [(trial.model, trial.n_samples) for trial in trials] == [
        (name, n) for name in SLOPES for n in (200, 400, 800)
    ]
    with pytest.raises(BudgetTooSmallError, match="3 sizes of every candidate that the pooled"):
        PooledFit().ask(task, curves_of({}), Budget(flops=4 * 600.0))


def test_candidates_that_diverged_come_last():
    table = curves_of(SLOPES)
    table.loc[table["model"] == "a2", "test_loss"] = math.nan
    selection = PooledFit(n_draws=200).rank(task_of(SLOPES), table)
    assert selection.ranking[-1].model == "a2"
    assert selection.ranking[-1].status == "no usable trial"
    table["test_loss"] = math.nan
    nothing = PooledFit(n_draws=200).rank(task_of(SLOPES), table)
    assert {entry.status for entry in nothing.ranking} == {"no usable trial"}


def after(task, curves):
    """The task with curves of earlier ones, if any."""
    return replace(task, prior_curves=None if curves is None else PriorCurves(curves))


def test_draws_name_the_candidates_and_end_at_the_target():
    task = task_of(SLOPES)
    table = curves_of({name: SLOPES[name] for name in ("a1", "b1")})
    found = PooledPredictor().draws(task, table, [6400, FULL], n_draws=50, seed=1)
    assert found.models == ("a1", "b1")
    assert found.sizes == (6400, FULL)
    assert found.log_loss.shape == (50, 2, 2)
    again = PooledPredictor().draws(task, table, [6400, FULL], n_draws=50, seed=1)
    np.testing.assert_array_equal(found.log_loss, again.log_loss)
    empty = PooledPredictor().draws(task, table[:0], [FULL], n_draws=50, seed=1)
    assert empty.models == ()


def test_earlier_tasks_move_candidates_towards_where_they_ended_there(tmp_path):
    sizes = (*SIZES, 6400, 12800, 25600, FULL)
    reverse = dict(zip(SLOPES, sorted(SLOPES.values()), strict=True))
    prior = curves_of(reverse, "earlier", sizes)  # a1 last, b2 first
    task, table = task_of([*SLOPES, "c1"]), curves_of({**SLOPES, "c1": 0.05})

    def predicted(prior_curves, correlation=0.5, seen=table):
        settings = PooledSettings(task_correlation=correlation, bias_correlation=0.0)
        known = after(task, prior_curves)
        draws = PooledPredictor(settings).draws(known, seen, [FULL], n_draws=2000, seed=0)
        return draws.log_loss[:, :, -1].mean(axis=0)

    shift = predicted(prior) - predicted(None)
    assert shift[0] > 0 > shift[3]
    assert shift[4] == 0.0  # of c1 nothing is known
    assert np.ptp(shift) > 1.5 * np.ptp(predicted(prior, 0.2) - predicted(None))
    np.testing.assert_array_equal(predicted(prior, 0.0), predicted(None))
    more = curves_of({**SLOPES, "c1": 0.05}, sizes=sizes[:-1])  # they leave little open
    assert np.ptp(predicted(prior, seen=more) - predicted(None, seen=more)) < np.ptp(shift) / 3
    own = prior.assign(dataset="demo")
    np.testing.assert_array_equal(predicted(own), predicted(None))
    only = prior[prior["model"] == "a1"]
    np.testing.assert_array_equal(predicted(only), predicted(None))
    found = PooledFit(n_draws=200).rank(after(task, prior), table)
    said = reason_words(found)
    assert "from all curves and where 4 candidates ended on earlier tasks" in said
    prior.to_csv(tmp_path / "prior.csv", index=False)
    read = PriorCurves.read(tmp_path / "prior.csv").curves
    np.testing.assert_allclose(predicted(read), predicted(prior))


def test_what_laws_got_wrong_on_earlier_tasks_is_taken_off():
    """All curves flatten beyond 3200 on the earlier task, and no point here can show it."""
    sizes = (*SIZES, 6400, 12800, 25600, FULL)
    flattening = dict.fromkeys(SLOPES, -0.012)
    prior = curves_of(SLOPES, "earlier", sizes, flattening)
    task, table = task_of(SLOPES), curves_of(SLOPES)
    settings = PooledSettings(task_correlation=0.0)

    def drawn(prior_curves):
        predictor, known = PooledPredictor(settings), after(task, prior_curves)
        return predictor.draws(known, table, [6400, FULL], n_draws=2000, seed=0).log_loss

    shift = drawn(prior).mean(axis=0) - drawn(None).mean(axis=0)
    assert (shift > 0).all()
    np.testing.assert_allclose(shift[:, 1], 4 * shift[:, 0], rtol=0.1)  # four doublings for one
    assert np.ptp(shift[:, 1]) < 0.01 * shift[0, 1]  # the same for all candidates
    assert drawn(prior)[:, :, 1].std(axis=0).mean() < drawn(None)[:, :, 1].std(axis=0).mean()


def test_yaml_shows_the_defaults():
    path = Path(__file__).parents[2] / "conf" / "selector" / "pooled_fit.yaml"
    shown = dict(OmegaConf.to_container(OmegaConf.load(path).predictor.settings))
    del shown["_target_"]
    defaults = PooledSettings()
    for name, value in shown.items():
        own = getattr(defaults, name)
        assert (list(own) if isinstance(own, tuple) else own) == value


def test_at_least_a_hundred_draws():
    with pytest.raises(ValueError, match="`n_draws` >= 100, got 10"):
        PooledFit(n_draws=10)


def test_leads_accept_then_stop_on_the_recorded_benchmark(benchmark_dir):
    from lensllm.evaluation import evaluate, load_rsl
    from lensllm.selectors import AcceptThenStop

    benchmark = load_rsl(benchmark_dir / "rsl")
    found = evaluate(benchmark, [PooledFit(n_draws=200), AcceptThenStop()], (32, 512))
    means = found.scores.groupby("selector")[["pearson", "relative_accuracy", "log_rmse"]].mean()
    pooled, ats = means.loc["pooled_fit"], means.loc["ats"]
    assert pooled["pearson"] > ats["pearson"] + 0.02
    assert pooled["log_rmse"] < ats["log_rmse"]
    assert pooled["relative_accuracy"] > 0.95
