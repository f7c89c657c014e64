import numpy as np
import pytest

from lensllm.laws import RectifiedLaw
from lensllm.laws.simulation import simulate_curves


def test_simulated_curves_are_rectified_plus_noise(sizes):
    params, losses = simulate_curves(500, sizes, 0.02, seed=0)
    residuals = np.log(losses / RectifiedLaw()(sizes, params))
    assert residuals.std() == pytest.approx(0.02, rel=0.03)
    assert (RectifiedLaw()(sizes[:1], params) <= 4.0 + 1e-9).all()
