import numpy as np
import pytest

from lensllm.laws import ExponentialCurve, LensLLMLaw, RectifiedLaw, VanillaLaw

SIZES = 200.0 * 2.0 ** np.arange(14)
CURVE = ExponentialCurve(weights=[900.0, 80.0, 3.0], rates=[1e-2, 1e-3, 1e-5])
LAWS = {
    "rectified": (RectifiedLaw(), [60.0, 0.5, 20.0, 1.0]),
    "vanilla": (VanillaLaw(), [30.0, 0.4, 1.2, 0.7]),
    "power": (VanillaLaw(with_alpha=False), [9.0, 0.3, 0.8]),
    "lensllm": (LensLLMLaw(CURVE, ntk_scale=0.5), [60.0, 0.5, 150.0, 1.0]),
    "lensllm_known_steps": (LensLLMLaw(CURVE, n_steps=150.0), [60.0, 0.5, 1.0]),
}


@pytest.fixture(params=LAWS, ids=list(LAWS))
def law_and_params(request):
    law, params = LAWS[request.param]
    return law, np.array(params)


@pytest.fixture
def sizes():
    return SIZES.copy()
