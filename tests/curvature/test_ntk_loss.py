from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.laws import ExponentialCurve, LensLLMLaw


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(6, 9))
    return jacobian @ jacobian.T, rng.normal(size=6)


def test_equals_the_matrix_exponential_and_the_ode(problem):
    theta, residual = problem
    eta = 0.01
    curve = NTKLoss.from_kernel(theta, residual, eta)
    times = np.array([0.0, 0.3, 2.0, 17.0])
    flow = solve_ivp(
        lambda _, r: -eta * theta @ r, (0, 17.0), residual, t_eval=times, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(curve(times), (flow.y**2).mean(axis=0), rtol=1e-7)
    for t in times:
        assert curve(t) == pytest.approx(np.mean((expm(-eta * theta * t) @ residual) ** 2))
    elementwise = np.mean((np.exp(-eta * theta * 2.0) @ residual) ** 2)
    assert abs(elementwise - curve(2.0)) > 0.1 * curve(2.0)


def test_predicts_gradient_descent_on_a_linear_model():
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(8, 5)), rng.normal(size=8)
    weights = rng.normal(size=5)
    eta = 2e-5
    curve = NTKLoss.from_kernel(inputs @ inputs.T, inputs @ weights - targets, eta)
    for step in range(1, 10_001):
        weights -= eta * inputs.T @ (inputs @ weights - targets)
        if step in (1, 100, 10_000):
            real = np.mean((inputs @ weights - targets) ** 2)
            assert curve(step) == pytest.approx(real, rel=2e-4)
    assert real < 0.7 * curve(0.0)
    # Three directions outside the span of the inputs are never learned.
    assert curve(1e9) > 0.01


def test_what_is_never_learned():
    with_floor = NTKLoss(np.array([1.0, 0.0]), np.array([1.0, 2.0]), 0.1)
    assert with_floor(1e9) == pytest.approx(2.0)


def test_summaries():
    curve = NTKLoss.from_kernel(np.diag([4.0, 1.0, 0.5]), [2.0, 1.0, 0.0], 1.0)
    assert curve.alignment == pytest.approx((4 * 4 + 1) / 5 / 4)
    np.testing.assert_allclose(curve.captured, [0.8, 1.0, 1.0])
    shares = np.array([4, 1, 0.5]) / 5.5
    assert curve.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert NTKLoss.from_kernel(np.eye(3), np.ones(3), 1.0).effective_rank == pytest.approx(3.0)


def test_fits_the_law_as_its_curve(problem):
    curve = NTKLoss.from_kernel(*problem, 0.02)
    law = LensLLMLaw(curve)
    other = LensLLMLaw(ExponentialCurve(curve.weights.tolist(), curve.rates.tolist()))
    params = [3.0, 0.4, 12.0, 1.1]
    np.testing.assert_allclose(law([0, 200, 800], params), other([0, 200, 800], params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -1.0}, "`learning_rate` > 0, got -1"),
        ({"residual": np.ones(5)}, r"\(5, 5\) for 5 residuals, got \(6, 6\)"),
        ({"kernel": np.triu(np.ones((6, 6)))}, "symmetric kernel, got entries 1 apart"),
        ({"kernel": -np.eye(6)}, "eigenvalue -1"),
    ],
)
def test_unusable_input_is_refused(problem, change, message):
    given = {"kernel": problem[0], "residual": problem[1], "learning_rate": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        NTKLoss.from_kernel(**given)


def test_unusable_values_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2"):
        NTKLoss(np.ones(2), np.ones(1), 1.0)
    with pytest.raises(ValueError, match="got nan"):
        NTKLoss(np.ones(1), np.array([np.nan]), 1.0)
    with pytest.raises(ValueError, match=r"`eigenvalues` >= 0, got -0\.5"):
        NTKLoss(np.array([-0.5]), np.ones(1), 1.0)
