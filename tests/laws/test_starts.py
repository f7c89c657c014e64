import numpy as np
import pytest
from scipy.optimize import nnls

from lensllm.laws import RectifiedLaw, VanillaLaw
from lensllm.laws.objectives import make_objective
from lensllm.laws.simulation import simulate_curves
from lensllm.laws.solver import make_problem
from lensllm.laws.starts import _eliminate_linear, screened_starts

SIZES = 200.0 * 2.0 ** np.arange(10)


def stacked(law, n_curves):
    _, losses = simulate_curves(n_curves, SIZES, 0.02, seed=0)
    grid = np.broadcast_to(SIZES, losses.shape)
    goal = make_objective("squared_log")
    return make_problem((law,) * n_curves, goal, grid, losses, np.ones_like(losses)), losses


@pytest.mark.parametrize("law", [RectifiedLaw(), VanillaLaw()])
def test_starts_differ_and_follow_the_seed(law):
    problem, _ = stacked(law, 4)
    starts = screened_starts(problem, 8, seed=0)
    assert starts.shape == (4, 8, 4)
    for rows in starts:
        assert len(np.unique(rows[:, 2:], axis=0)) == 8
    assert np.array_equal(starts, screened_starts(problem, 8, seed=0))
    assert not np.array_equal(starts, screened_starts(problem, 8, seed=1))


def test_linear_parameters_agree_with_non_negative_least_squares():
    law = RectifiedLaw()
    problem, losses = stacked(law, 3)
    design = np.array([[[0.3, 8.0], [0.9, 11.0], [0.1, 3.0]]])
    level, share, misfit = _eliminate_linear(problem, design)
    for k in range(3):
        for j, (beta, log_t) in enumerate(design[0]):
            shape = 1.0 / (np.exp(beta * log_t) + SIZES**beta)
            matrix = np.stack([shape, np.ones_like(shape)], axis=1) / losses[k][:, None]
            (scale, floor), norm = nnls(matrix, np.ones(len(SIZES)))
            middle = np.exp(problem.log_reference[k])
            at_middle = scale / (np.exp(beta * log_t) + middle**beta)
            assert misfit[k, j] == pytest.approx(norm**2, rel=1e-6)
            assert np.exp(level[k, j]) == pytest.approx(at_middle + floor, rel=1e-6)
            expected = np.clip(at_middle / (at_middle + floor), 0.02, 0.98)
            assert share[k, j] == pytest.approx(expected, rel=1e-5)
