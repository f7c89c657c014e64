"""What every law promises, checked on each of them."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import approx_fprime, brentq

from lensllm.laws import ExponentialCurve, LensLLMLaw, RectifiedLaw, VanillaLaw, fit_law
from lensllm.laws.base import BETA_BOUNDS, ScalingLaw, log_sizes, split

LAWS = {
    "rectified": (RectifiedLaw(), [60.0, 0.5, 20.0, 1.0]),
    "vanilla": (VanillaLaw(), [30.0, 0.4, 1.2, 0.7]),
    "power": (VanillaLaw(with_alpha=False), [9.0, 0.3, 0.8]),
    "lensllm": (LensLLMLaw(ExponentialCurve([900.0], [1e-2])), [60.0, 0.5, 150.0, 1.0]),
}


def test_a_law_of_ones_own_is_named_after_its_class():
    class ShiftedLogLaw(RectifiedLaw):
        pass

    assert ShiftedLogLaw().name == "shifted_log"


def test_fitting_coordinates_describe_the_same_curve(law_and_params, sizes):
    law, params = law_and_params
    fit = fit_law(law, sizes, law(sizes, params))
    values, _ = law.log_loss(
        log_sizes(sizes), fit.batch.coordinates[0], fit.batch.log_reference[0], gradient=False
    )
    assert np.exp(values) == pytest.approx(law(sizes, fit.params), rel=1e-9)


def test_coordinate_gradient_agrees_with_differences(law_and_params, sizes):
    law, params = law_and_params
    fit = fit_law(law, sizes, law(sizes, params))
    z, reference = fit.batch.coordinates[0], fit.batch.log_reference[0]
    z = z + 0.01
    z[1] = 0.6
    _, jacobian = law.log_loss(log_sizes(sizes), z, reference)
    for i, size in enumerate(sizes):
        numeric = approx_fprime(
            z,
            lambda x, n=size: float(law.log_loss(log_sizes([n]), x, reference, False)[0][0]),
            1e-7,
        )
        assert jacobian[:, i] == pytest.approx(numeric, rel=1e-4, abs=1e-5)


def test_inverse_agrees_with_root_finding(law_and_params):
    law, params = law_and_params
    target = float(law([12345.0], params)[0])
    root = brentq(lambda n: float(law([n], params)[0]) - target, 1.0, 1e9, xtol=1e-9)
    assert law.n_samples_for(target, params) == pytest.approx(root, rel=1e-6)


def test_inverse_beyond_the_limits(law_and_params):
    law, params = law_and_params
    floor = law([1e300], params)[0]
    assert np.isinf(law.n_samples_for(floor, params))
    assert np.isinf(law.n_samples_for(0.5 * floor, params))
    if law.defined_at_zero:
        assert law.n_samples_for(2.0 * law([0.0], params)[0], params) == 0.0


def test_broadcasts_over_curves(law_and_params, sizes):
    law, params = law_and_params
    stacked = np.stack([params, params * 0.9])
    assert law(sizes, stacked).shape == (2, len(sizes))
    assert law(sizes, stacked)[1] == pytest.approx(law(sizes, params * 0.9))


def test_clean_curve_is_recovered(law_and_params, sizes):
    law, params = law_and_params
    fit = fit_law(law, sizes, law(sizes, params))
    assert fit.converged
    assert fit.rmse_log < 1e-9
    assert fit.params == pytest.approx(params, rel=1e-6)


@dataclass(frozen=True)
class ShiftedLaw(ScalingLaw):
    """L(D) = B / (1000 + D)^β + E: as little as a law of one's own needs."""

    param_names = ("scale", "beta", "irreducible_loss")
    shape_names = ("beta",)

    def __call__(self, n_samples, params):
        scale, beta, irreducible = split(params)
        return scale * (1000.0 + np.asarray(n_samples, dtype=float)) ** -beta + irreducible

    def shape_bounds(self, log_n_min, log_n_max):
        ones = np.ones((*np.shape(log_n_min), 1))
        return BETA_BOUNDS[0] * ones, BETA_BOUNDS[1] * ones

    def log_shape(self, log_n, shape, gradient=True):
        shifted = np.log(1000.0 + np.exp(log_n))
        return -shape[..., :1] * shifted, -np.broadcast_to(shifted, (1, *np.shape(shifted)))

    def params_of(self, coordinates, log_reference):
        c, p, beta = np.moveaxis(coordinates, -1, 0)
        scale = p * np.exp(c) * (1000.0 + np.exp(log_reference)) ** beta
        return np.stack([scale, beta, (1.0 - p) * np.exp(c)], axis=-1)

    def prior_shape(self):
        return np.array([np.log(0.5)]), np.array([np.log(2.0)])


def test_a_law_of_ones_own_is_fitted_and_inverted(sizes):
    law, params = ShiftedLaw(), np.array([60.0, 0.5, 1.0])
    sizes = np.concatenate([[0.0], sizes])
    fit = fit_law(law, sizes, law(sizes, params))
    assert fit.converged
    assert fit.warnings == ()
    assert fit.params == pytest.approx(params, rel=1e-6)
    assert fit.n_samples_for(2.0) == pytest.approx(3600 - 1000, rel=1e-6)
    assert fit.n_samples_for(5.0) == 0.0
    assert np.isinf(fit.n_samples_for(0.99))
    low, high = fit.posterior.interval(1e6)
    assert low[0] < law([1e6], params)[0] < high[0]


@pytest.mark.parametrize("law_name", ["rectified", "vanilla", "power", "lensllm"])
def test_bisection_agrees_with_closed_forms(law_name):
    law, params = LAWS[law_name]
    losses = np.array([0.1, 1.05, 1.5, 2.0, 3.7, 100.0])
    stacked = np.broadcast_to(params, (len(losses), len(params)))
    assert ScalingLaw.n_samples_for(law, losses, stacked) == pytest.approx(
        law.n_samples_for(losses, stacked), rel=1e-9
    )
