import numpy as np
import pytest
from scipy.optimize import least_squares

from lensllm.laws import RectifiedLaw
from lensllm.laws.objectives import make_objective
from lensllm.laws.simulation import simulate_curves
from lensllm.laws.solver import make_problem, minimise

SIZES = 200.0 * 2.0 ** np.arange(10)


def stacked(n_curves, objective="squared_log"):
    _, losses = simulate_curves(n_curves, SIZES, 0.02, seed=0)
    grid = np.broadcast_to(SIZES, losses.shape)
    return make_problem(
        (RectifiedLaw(),) * n_curves, make_objective(objective), grid, losses, np.ones_like(losses)
    )


def gradient_of(problem, z):
    """Derivatives of the objective, from those of the residuals that the solver descends by."""
    residuals, jacobian = problem.residuals(z)
    return np.einsum("aki,ki->ka", jacobian, problem.weights * problem.objective.psi(residuals))


@pytest.mark.parametrize("second_order", [False, True])
def test_agrees_with_scipy_from_the_same_start(second_order):
    problem = stacked(8)
    start = np.tile([0.5, 0.5, 0.4, np.log(2e4)], (8, 1))
    solution = minimise(problem, start, 300, second_order=second_order)
    assert solution.converged.all()
    for i in range(8):
        part = problem.take(np.array([i]))
        oracle = least_squares(
            lambda z, part=part: part.residuals(z[None], gradient=False)[0][0],
            start[i],
            bounds=(part.lower[0], part.upper[0]),
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        assert solution.value[i] <= oracle.cost * (1 + 1e-6)


@pytest.mark.parametrize("objective", ["squared_log", "huber", "squared"])
def test_gradient_agrees_with_differences(objective):
    problem = stacked(3, objective)
    z = np.tile([0.5, 0.5, 0.4, np.log(2e4)], (3, 1))
    gradient = gradient_of(problem, z)
    for a in range(4):
        step = np.zeros(4)
        step[a] = 1e-6
        numeric = (problem.value(z + step) - problem.value(z - step)) / 2e-6
        assert gradient[:, a] == pytest.approx(numeric, rel=1e-3, abs=1e-8)


def test_solutions_are_stationary_within_the_box():
    problem = stacked(30)
    solution = minimise(problem, np.tile([0.5, 0.5, 0.4, np.log(2e4)], (30, 1)), 300)
    gradient = gradient_of(problem, solution.z)
    inside = (solution.z > problem.lower) & (solution.z < problem.upper)
    assert np.abs(gradient[inside]).max() < 1e-6
    assert (gradient[solution.z <= problem.lower] >= -1e-9).all()
    assert (gradient[solution.z >= problem.upper] <= 1e-9).all()


def test_never_leaves_the_box_nor_goes_uphill():
    problem = stacked(5)
    start = np.tile([5.0, 3.0, -1.0, 100.0], (5, 1))
    clipped = np.clip(start, problem.lower, problem.upper)
    solution = minimise(problem, start, 3)
    assert (solution.z >= problem.lower).all()
    assert (solution.z <= problem.upper).all()
    assert (solution.value <= problem.value(clipped)).all()
