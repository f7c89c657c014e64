from dataclasses import replace

import numpy as np
import pytest

from lensllm.prehoc.phases import classify, locate
from lensllm.prehoc.predictors import cross_validated_predictions
from lensllm.prehoc.process import SyntheticProcess
from lensllm.prehoc.risk import decompose, seed_variance
from lensllm.prehoc.support import power_support
from lensllm.studies.prehoc.load import concatenate

REGIMES = {
    "static-sufficient": {
        "static_variance": 0.6,
        "reducible": 0.1,
        "intrinsic": 0.02,
        "scale": 0.005,
    },
    "dynamic-critical": {
        "static_variance": 0.02,
        "reducible": 0.4,
        "intrinsic": 0.02,
        "scale": 0.01,
    },
    "noise-dominant": {
        "static_variance": 0.01,
        "reducible": 0.02,
        "intrinsic": 0.4,
        "scale": 0.001,
    },
}


@pytest.mark.parametrize("regime", REGIMES)
def test_regimes_away_from_boundaries_are_right(draw, regime):
    right = [
        locate(decompose(draw(14, 8, seed=s, **REGIMES[regime]), "synthetic", n_draws=100)).regime
        for s in range(2)
    ]
    assert right == [regime] * 2


def test_a_task_on_a_boundary_is_called_so(draw):
    runs = draw(14, 6, static_variance=0.2, reducible=0.2, intrinsic=0.01, scale=0.01)
    phase = locate(decompose(runs, "synthetic"))
    assert phase.near_boundary
    assert phase.verdict.startswith("near a boundary (")


def test_a_regime_is_clear_where_the_interval_of_its_share_is_above_one_half(draw):
    d = decompose(draw(6, 2), "synthetic", n_draws=100)
    for n_other, near in ((4, False), (7, True)):  # of 100 draws: a 90 % interval ends at the fifth
        dynamic = np.where(np.arange(101) <= n_other, 0.4, 0.7)
        dynamic[0] = 0.6
        shares = np.stack([0.9 - dynamic, dynamic, np.full(101, 0.1)], axis=1)
        phase = locate(replace(d, shares=shares))
        assert phase.regime == "dynamic-critical"
        assert phase.near_boundary == near
    assert "near a boundary (dynamic-critical 93%, mixed 7%)" in phase.verdict


def test_one_model_unlike_the_others_is_not_called_noise(draw):
    runs = draw(8, 4, static_variance=1e-6, reducible=1e-4, scale=1e-6, intrinsic=1e-4)
    outlier = np.where(runs.models == "model-0", 1.0, 0.0)
    odd = replace(runs, outcomes=runs.outcomes + outlier)
    phase = locate(decompose(odd, "synthetic", n_draws=50))
    assert phase.unresolved
    assert phase.verdict.startswith("unresolved (seeds are only 0% of Var(Y))")


def test_shares_are_named_by_their_majority():
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    assert classify(shares).tolist() == [0, 1, 2, 3]


def test_shares_sum_to_one_and_are_near_the_truth(draw):
    process = SyntheticProcess(**REGIMES["dynamic-critical"])
    d = decompose(draw(16, 12, **REGIMES["dynamic-critical"]), "synthetic")
    np.testing.assert_allclose(d.shares.sum(1), 1.0)
    true = np.array([0.02, 0.4, 0.02]) / process.outcome_variance
    np.testing.assert_allclose(d.shares[0], true, atol=0.15)
    assert d.risk("trace")[-1] < 0.3 * d.static_risk
    assert d.best in ("trace", "static_trace")


def test_a_predictor_never_sees_the_group_that_it_predicts(draw):
    runs = draw(8, 3)
    held_out = runs.models == "model-3"
    changed = replace(runs, outcomes=np.where(held_out, 99.0, runs.outcomes))
    for kind in ("mean", "static", "trace", "static_trace"):
        before = cross_validated_predictions(runs, kind, runs.models)[held_out]
        after = cross_validated_predictions(changed, kind, runs.models)[held_out]
        np.testing.assert_array_equal(before, after)


def test_the_ridge_agrees_with_ordinary_least_squares_where_there_is_no_noise(draw):
    runs = draw(12, 1)
    exact = replace(runs, outcomes=1.0 + 0.5 * runs.probes[:, 0])
    found = cross_validated_predictions(exact, "trace", exact.models)[:, 0]
    np.testing.assert_allclose(found, exact.outcomes, atol=5e-3)


def test_models_that_all_end_alike_leave_nothing_to_choose(draw):
    runs = draw(8, 5, static_variance=0.0, reducible=0.2, intrinsic=0.4, scale=0.002)
    alike = replace(runs, outcomes=2.0 + 0.001 * (runs.outcomes - 3.0))
    phase = locate(decompose(alike, "synthetic", n_draws=50))
    means = [alike.outcomes[alike.models == m].mean() for m in set(alike.models)]
    assert phase.model_range == pytest.approx(max(means) - min(means))
    assert phase.verdict.startswith(f"nothing to choose within {phase.model_range:.2g} nats; else ")
    assert not locate(decompose(runs, "synthetic", n_draws=50)).nothing_to_choose


def test_leaving_a_task_out(draw):
    parts = [draw(8, 2, seed=i, task=f"task-{i}", static_variance=0.3) for i in range(3)]
    d = decompose(concatenate(parts), "task-1", leave_out="task", n_draws=50)
    assert d.n_runs == 16
    assert d.risk("trace")[-1] < d.outcome_variance
    with pytest.raises(ValueError, match="at least 3 tasks to leave one out, got task-0, task-1"):
        decompose(concatenate(parts[:2]), "task-1", leave_out="task")


def test_seed_variance_is_that_within_models(draw):
    runs = draw(400, 3)
    assert seed_variance(runs) == pytest.approx(0.22, rel=0.1)  # Var(u) + Var(e)


@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        (lambda c: 0.01 + 0.003 * c**-0.9, "power"),
        (lambda c: 0.01 + 0.2 * np.exp(-c / 0.15), "exponential"),
        (lambda c: 0.1 + 0 * c, "constant"),
    ],
)
def test_the_shape_of_the_risk_is_told_where_there_are_enough_runs(shape, verdict):
    costs = np.geomspace(0.01, 1.0, 14)
    rng = np.random.default_rng(0)
    errors = shape(costs) * rng.chisquare(1, (4000, len(costs)))
    found = power_support(costs, errors, np.arange(4000), n_draws=100)
    assert found.verdict == verdict, found
    assert verdict in found.sentence or "do not show" in found.sentence
    assert min(found.aicc, key=found.aicc.get) == verdict


def test_with_few_runs_power_and_exponential_are_not_told_apart(draw):
    d = decompose(draw(8, 3, seed=1), "synthetic", n_draws=100)
    assert d.support.verdict in ("undecided", "constant")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_models": 3, "n_seeds": 5}, "at least 4 models on 'synthetic', got 3"),
        ({"n_models": 1, "n_seeds": 15}, "at least 4 models on 'synthetic', got 1"),
        ({"n_models": 20, "n_seeds": 1}, "at least 2 seeds on 'synthetic', got 1"),
        ({"n_models": 5, "n_seeds": 2}, "at least 12 runs on 'synthetic', got 10"),
        (
            {"costs": np.array([0.1, 0.3, 1.0])},
            "at least 4 probe costs on 'synthetic', got 3: .* raise max_cost",
        ),
    ],
)
def test_too_little_is_refused_with_what_is_missing(draw, change, message):
    with pytest.raises(ValueError, match=message):
        decompose(draw(**change), "synthetic")


def test_constant_outcomes_and_unknown_tasks_are_refused(draw):
    runs = draw()
    constant = replace(runs, outcomes=np.full(len(runs), 2.5))
    with pytest.raises(ValueError, match=r"outcomes that differ on 'synthetic', got 72 times 2\.5"):
        decompose(constant, "synthetic")
    with pytest.raises(ValueError, match="one of the tasks synthetic, got other"):
        decompose(runs, "other")
    with pytest.raises(ValueError, match=r"`probes` of shape \(72, 12\), got \(72, 11\)"):
        replace(runs, probes=runs.probes[:, 1:])
