import numpy as np
import pytest

from lensllm.laws import ExponentialCurve, LensLLMLaw, RectifiedLaw, fit_law, fit_laws

CURVE = ExponentialCurve(weights=[900.0, 80.0, 3.0], rates=[1e-2, 1e-3, 1e-5])


def test_curve_is_a_sum_of_exponentials():
    t = 40.0
    expected = 900 * np.exp(-0.4) + 80 * np.exp(-0.04) + 3 * np.exp(-4e-4)
    assert float(CURVE(t)) == pytest.approx(expected)


def test_is_the_rectified_law_with_the_term_for_pre_learned_size(sizes):
    law = LensLLMLaw(CURVE, ntk_scale=0.25)
    term = 0.25 * float(CURVE(70.0))
    assert law(sizes, [60.0, 0.5, 70.0, 1.0]) == pytest.approx(
        RectifiedLaw()(sizes, [60.0, 0.5, term, 1.0])
    )
    assert law.transition_size([60.0, 0.5, 70.0, 1.0]) == pytest.approx(term**2)


def test_steps_invert_the_curve():
    law = LensLLMLaw(CURVE)
    steps = np.array([0.0, 3.0, 500.0, 4e4])
    assert law.steps_of(CURVE(steps)) == pytest.approx(steps, rel=1e-9, abs=1e-9)


def test_fit_cannot_leave_what_the_curve_reaches(sizes):
    weak = LensLLMLaw(ExponentialCurve([1e-3], [1e-3]))
    fit = fit_law(weak, sizes, RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0]))
    assert fit.rmse_log > 0.01
    assert fit.named_params["n_steps"] == pytest.approx(0.0, abs=1e-6)
    assert any("log_ntk_loss is at its bound, the highest" in text for text in fit.warnings)


def test_fits_with_a_curve_of_its_own_for_each_model(sizes):
    laws = [LensLLMLaw(CURVE), LensLLMLaw(ExponentialCurve([300.0], [1e-3]))]
    params = np.array([[60.0, 0.5, 150.0, 1.0], [50.0, 0.6, 900.0, 0.7]])
    losses = np.stack([law(sizes, row) for law, row in zip(laws, params, strict=True)])
    fits = fit_laws(laws, sizes, losses)
    assert fits.params == pytest.approx(params, rel=1e-6)
    for i, posterior in enumerate(fits.posteriors):
        low, high = posterior.interval(3.2e6, 0.9)
        assert low[0] < laws[i]([3.2e6], params[i])[0] < high[0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ntk_scale": 0.0}, "got 0"),
        ({"max_n_steps": -1.0}, "got -1"),
        ({"n_steps": -3.0}, "got -3"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        LensLLMLaw(CURVE, **options)


def test_bad_curves():
    with pytest.raises(ValueError, match="got 1 and 2"):
        ExponentialCurve([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="`weights` >= 0, got -1"):
        ExponentialCurve([-1.0], [1.0])
    with pytest.raises(ValueError, match="finite and > 0, got 0"):
        LensLLMLaw(ExponentialCurve([0.0], [1.0]))
