import numpy as np
import pytest

from lensllm.predictors.prior import PARAMETERS, CurvePrior, load_prior
from tests.predictors.conftest import prior_with

X = np.arange(1.0, 12.0)


def test_without_fading_drift_is_an_integrated_wiener_process():
    change = {"decay": 0.0, "decay_change": 0.0, "log_level": -30.0, "log_own_slope": -30.0}
    _, family, own = prior_with(change | {"log_own_drift": 0.0}).covariances(X)
    low = np.minimum(X[:, None], X)
    expected = low**3 / 3 + np.abs(X[:, None] - X) * low**2 / 2
    np.testing.assert_allclose((family + own)[0], expected, rtol=0.01)


def test_slopes_that_fade_reach_a_level():
    """v = exp(-a x) adds (1 - exp(-a x)) / a, Monte Carlo of dv = -a v dx + dW the rest."""
    change = {"decay": 0.4, "decay_change": 0.0, "log_level": -30.0, "log_own_drift": -30.0}
    _, family, own = prior_with(change | {"log_own_slope": 0.0}).covariances(X)
    reach = (1 - np.exp(-0.4 * X)) / 0.4
    np.testing.assert_allclose((family + own)[0], np.outer(reach, reach), rtol=0.01)
    drifting = prior_with({"decay": 0.4, "decay_change": 0.0, "log_own_drift": 0.0})
    still = prior_with({"decay": 0.4, "decay_change": 0.0, "log_own_drift": -30.0})
    got = sum(drifting.covariances(X)[1:])[0] - sum(still.covariances(X)[1:])[0]
    rng = np.random.default_rng(0)
    step, v, o = 0.02, np.zeros(20_000), np.zeros(20_000)
    for _ in range(round(4.0 / step)):
        o += step * v
        v += -0.4 * v * step + np.sqrt(step) * rng.standard_normal(len(v))
    assert got[3, 3] == pytest.approx(o.var(), rel=0.05)


def test_covariances_are_positive_and_families_take_their_share():
    prior = prior_with({"logit_family": 0.0}, {"logit_family": np.log(3.0)})
    common, family, own = prior.covariances(X)
    for part in (common, family, own):
        assert np.linalg.eigvalsh(part).min() > -1e-8
    np.testing.assert_allclose(family[0], own[0])
    np.testing.assert_allclose(family[1], 3 * own[1])


def test_noise_falls_with_size_and_floors_are_shares_of_the_smallest_loss():
    prior = prior_with({"log_noise": np.log(0.1), "log_small_noise": np.log(0.2)})
    noise = prior.noise(np.array([256.0, 1e9]))
    np.testing.assert_allclose(noise, [[0.05, 0.01]], rtol=1e-5)
    assert prior_with({"logit_floor": 0.0}).floors(2.0)[0] == pytest.approx(0.9)


def test_the_packages_prior_is_proper_and_a_task_can_be_left_out():
    prior = load_prior()
    assert prior.weights.sum() == pytest.approx(1.0)
    assert np.isfinite(prior.vectors).all()
    name = prior.names[0]
    assert name not in prior.without({name}).names


def test_errors_say_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"learn_prior\.py"):
        load_prior(str(tmp_path / "none.csv"))
    path = tmp_path / "prior.csv"
    path.write_text("task,weight,slope\nx,1,0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="column 'bend'"):
        load_prior(str(path))
    with pytest.raises(ValueError, match=f"{len(PARAMETERS)} parameters"):
        CurvePrior(("x",), np.zeros((1, 2)), np.ones(1))
