import numpy as np
import pytest

from lensllm.predictors.prior import PARAMETERS, CurvePrior

LIKELY = {
    "slope": -0.1,
    "log_level": -1.5,
    "log_own_slope": -3.5,
    "log_own_drift": -4.5,
    "decay": 0.1,
    "log_noise": -5.0,
    "log_small_noise": -5.0,
    "logit_floor": -1.0,
}


def prior_with(*changes):
    """One component for each mapping of parameters to values, on top of `LIKELY`."""
    vectors = []
    for change in changes:
        values = {name: mean for name, (mean, _) in PARAMETERS.items()} | LIKELY | change
        vectors.append([values[name] for name in PARAMETERS])
    names = tuple(f"task-{k}" for k in range(len(changes)))
    return CurvePrior(names, np.array(vectors), np.full(len(changes), 1.0 / len(changes)))


@pytest.fixture
def prior():
    """Two components that differ in all of their parts."""
    return prior_with(
        {},
        {
            "slope": -0.05,
            "bend": 0.003,
            "log_level": -0.8,
            "atanh_correlation": -0.5,
            "decay": -0.05,
            "decay_change": 0.02,
            "logit_family": 0.3,
            "log_own_drift": -3.5,
            "logit_floor": 0.5,
        },
    )
