import inspect
from pathlib import Path

import pytest
from hydra.utils import get_method
from omegaconf import OmegaConf

FOLDER = Path(__file__).parents[2] / "conf" / "benchmark"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_benchmark_yaml_fits_the_function_that_it_names(path):
    config = OmegaConf.load(path)
    parameters = inspect.signature(get_method(config._target_)).parameters
    given = set(config) - {"_target_"}
    assert given <= set(parameters)
    needed = {n for n, p in parameters.items() if p.default is inspect.Parameter.empty}
    assert needed <= given
