import numpy as np
import pandas as pd
import pytest

from lensllm.predictors.prior import PARAMETERS, CurvePrior
from lensllm.studies.selectors.learn_prior import (
    COPIES,
    learn_component,
    learn_prior,
    recorded_tasks,
    shown_points,
    weak_prior,
)
from tests.predictors.conftest import prior_with

SIZES = 200.0 * 2.0 ** np.arange(8)


def simulated(n_models, seed, dataset="demo", **change):
    """Curves drawn from a prior of one component, without a floor."""
    prior = prior_with({"logit_floor": -30.0} | change)
    x = np.log2(SIZES / 100.0)
    _, family, own = prior.covariances(x)
    rng = np.random.default_rng(seed)
    curves = rng.multivariate_normal(np.zeros(len(x)), (family + own)[0], size=n_models)
    noise = np.sqrt(prior.noise(SIZES)[0]) * rng.standard_normal(curves.shape)
    losses = np.exp(1.0 + prior.mean(x)[0] + curves + noise)
    rows = [
        {"model": f"m{i}", "dataset": dataset, "n_samples": int(n), "seed": 0, "test_loss": loss}
        for i in range(n_models)
        for n, loss in zip(SIZES, losses[i], strict=True)
    ]
    return pd.DataFrame(rows)


def learned(curves):
    (task,) = recorded_tasks(curves, "demo")
    vector, _ = learn_component(shown_points(task.table), *weak_prior())
    return dict(zip(PARAMETERS, vector, strict=True))


def test_spreads_and_noise_are_found_again():
    low = learned(simulated(80, 0, log_level=-2.0, log_noise=-5.5, log_small_noise=-9.0))
    high = learned(simulated(80, 0, log_level=-0.5, log_noise=-2.5, log_small_noise=-9.0))
    assert low["log_level"] == pytest.approx(-2.0, abs=0.35)
    assert high["log_level"] == pytest.approx(-0.5, abs=0.35)
    assert high["log_noise"] == pytest.approx(-2.5, abs=0.3)
    assert low["log_noise"] < -4.0


def test_what_is_learned_is_a_maximum():
    (task,) = recorded_tasks(simulated(12, 1), "demo")
    cases, (centre, spread) = shown_points(task.table), weak_prior()
    vector, best = learn_component(cases, centre, spread)
    steps = np.concatenate([np.diag(0.3 * spread), np.diag(-0.3 * spread)])
    prior = CurvePrior(("",) * len(steps), vector + steps, np.ones(len(steps)))
    density = np.mean([case.log_evidence(prior) for case in cases], axis=0)
    density -= 0.5 * (((vector + steps - centre) / spread) ** 2).sum(axis=1)
    assert (density < best).all()


def test_cases_show_the_points_so_far_and_those_at_the_end():
    (task,) = recorded_tasks(simulated(3, 2), "demo")
    cases = shown_points(task.table, (1, 3, 99))
    assert [case.grid.tolist() for case in cases] == [
        [*SIZES[:7], SIZES[7]],
        [*SIZES[:5], SIZES[7]],
    ]
    assert cases[1].least == pytest.approx(np.exp(task.table.log_loss[:, :5].min()))


def test_tasks_are_cut_at_sizes_and_keep_who_reached_them():
    curves = simulated(4, 3)
    curves = curves[~((curves["model"] == "m0") & (curves["n_samples"] == SIZES[-1]))]
    tasks = recorded_tasks(curves, "demo", (None, int(SIZES[4])))
    assert [task.table.sizes[-1] for task in tasks] == [SIZES[-1], SIZES[4]]
    assert [len(task.table.models) for task in tasks] == [3, 4]


def test_the_prior_has_copies_and_groups_weigh_the_same():
    tasks = [
        *recorded_tasks(simulated(5, 4, "a"), "one"),
        *recorded_tasks(simulated(5, 5, "b"), "one"),
        *recorded_tasks(simulated(5, 6, "c"), "two"),
    ]
    table = learn_prior(tasks)
    assert table["task"].tolist() == [name for name in "abc" for _ in range(1 + COPIES)]
    weights = table.groupby("task")["weight"].sum()
    assert weights["c"] == pytest.approx(0.5, abs=1e-4)
    assert weights["a"] == pytest.approx(0.25, abs=1e-4)
    pd.testing.assert_frame_equal(
        table[table["task"] == "c"].reset_index(drop=True)[list(PARAMETERS)],
        learn_prior(tasks[2:])[list(PARAMETERS)],
    )
