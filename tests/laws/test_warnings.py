import numpy as np
import pytest
from scipy.optimize import curve_fit

from lensllm.laws import RectifiedLaw, VanillaLaw, fit_law
from lensllm.laws.solver import covariances

PARAMS = [60.0, 0.5, 20.0, 1.0]


def warned(fit, text):
    return any(text in warning for warning in fit.warnings)


def test_a_clean_well_placed_curve_has_none(sizes):
    assert fit_law(RectifiedLaw(), sizes, RectifiedLaw()(sizes, PARAMS)).warnings == ()


def test_constant_curve(sizes):
    fit = fit_law(RectifiedLaw(), sizes, np.full(len(sizes), 2.5))
    assert warned(fit, "the losses are constant in n_samples")
    assert fit.predict(1e9) == pytest.approx(2.5)


def test_rising_curve(sizes):
    losses = 2.0 + 0.1 * np.arange(len(sizes))
    fit = fit_law(RectifiedLaw(), sizes, losses)
    assert warned(fit, "the losses are not falling in n_samples")
    assert losses.min() < fit.predict(1e9) < losses.max()


def test_as_many_points_as_parameters(sizes):
    fit = fit_law(RectifiedLaw(), sizes[:4], RectifiedLaw()(sizes[:4], PARAMS))
    assert warned(fit, "4 points for 4 parameters: the fit goes through all of them")
    steepening = fit_law(VanillaLaw(with_alpha=False), sizes[:3], [3.0, 2.95, 2.0])
    assert warned(steepening, "3 points for 3 parameters: they say nothing about the noise")
    assert warned(steepening, "irreducible_loss is at its bound 0")


def test_irreducible_loss_at_zero(sizes):
    losses = RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 0.0]) ** 1.3
    fit = fit_law(RectifiedLaw(), sizes, losses)
    assert fit.named_params["irreducible_loss"] == 0.0
    assert warned(fit, "irreducible_loss is at its bound 0")


def test_shape_at_its_bound(sizes):
    losses = VanillaLaw(with_alpha=False)(sizes, [9.0, 0.3, 0.8])
    fit = fit_law(RectifiedLaw(), sizes, losses)
    assert warned(fit, "log_transition_size is at its bound, the lowest")


def test_what_the_data_cannot_tell(sizes):
    """On a pure power α and β trade against each other; a bend and a floor tell their law."""
    rng = np.random.default_rng(0)
    losses = 5.0 * sizes**-0.2 * np.exp(0.01 * rng.standard_normal(len(sizes)))
    assert warned(fit_law(VanillaLaw(), sizes, losses), "cannot tell beta: its standard error is")
    noisy = RectifiedLaw()(sizes, PARAMS) * np.exp(0.003 * rng.standard_normal(len(sizes)))
    assert not warned(fit_law(RectifiedLaw(), sizes, noisy), "cannot tell")


def test_outlier_is_named(sizes):
    rng = np.random.default_rng(0)
    losses = RectifiedLaw()(sizes, PARAMS) * np.exp(0.003 * rng.standard_normal(len(sizes)))
    quiet = fit_law(RectifiedLaw(), sizes, losses, objective="huber")
    assert not warned(quiet, "outlier")
    losses[9] *= 0.7
    fit = fit_law(RectifiedLaw(), sizes, losses, objective="huber")
    assert warned(fit, "outlier at n_samples = 102400: -")


def test_covariances_agree_with_scipy(sizes):
    rng = np.random.default_rng(3)
    losses = RectifiedLaw()(sizes, PARAMS) * np.exp(0.01 * rng.standard_normal(len(sizes)))
    fit = fit_law(RectifiedLaw(), sizes, losses)
    _, expected = curve_fit(
        lambda n, b, beta, d, e: np.log(RectifiedLaw()(n, [b, beta, d, e])),
        sizes,
        np.log(losses),
        p0=fit.params,
    )
    # β is a coordinate and a parameter
    assert covariances(fit.batch.problem, fit.batch.coordinates)[0, 2, 2] == pytest.approx(
        expected[1, 1], rel=2e-3
    )
