from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

FOLDER = Path(__file__).parents[2] / "conf" / "selector"
ELSEWHERE = ("lensllm", "nlp_metrics")


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(FOLDER.glob("*.yaml")) if p.stem not in ELSEWHERE],
    ids=lambda p: p.stem,
)
def test_every_selector_yaml_instantiates_under_its_own_name(path):
    config = OmegaConf.load(path)
    assert instantiate(config).name == path.stem
    given = set(config) - {"_target_"}
    from hydra.utils import get_class

    fields = get_class(config._target_).__dataclass_fields__
    assert given <= set(fields)
