import re

import pytest
from omegaconf import OmegaConf

import lensllm
from lensllm.commands.config import SelectConfig
from lensllm.commands.config_checks import check_config
from lensllm.commands.keywords import configure

COMMAND = {"command": {"command": ["true", "{n_samples}"]}}


def refusal(**options):
    config, given = configure("select", options)
    with pytest.raises(ValueError, match="Expected") as caught:
        check_config(config, SelectConfig, given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dataset": "wiki"}, "replay.dataset=NAME with runner=replay, got dataset=wiki"),
        ({"candidates": {"models": ["gpt2-48x2"]}}, "replay.models=.* got candidates.models="),
        ({"seed": 3}, "replay.seed=NUMBER with runner=replay, got seed=3"),
        ({"sizes": [3, 7]}, "runner=command or runner=finetune with sizes"),
        ({"learning_rate": 0.1}, "runner=finetune with optimizer.lr, got optimizer.lr=0.1"),
        ({"trial_time_limit": "1s"}, "with trial_time_limit, got"),
        ({"logger": "csv"}, "with logger, got logger=csv"),
        ({"runner": COMMAND, "batch_size": 8}, "got training.batch_size=8 with runner=command"),
        (
            {"runner": "finetune", "replay": {"dataset": "wiki"}},
            "runner=replay with replay.dataset",
        ),
        ({"runner": "finetune", "benchmark": "rsl"}, "runner=replay with benchmark"),
    ],
)
def test_what_a_runner_does_not_use_is_refused(options, expected):
    assert re.search(expected, refusal(**{"runner": "replay", **options}))


def test_limits_from_a_file_are_refused_as_well():
    config, _ = configure("select", {"runner": "replay"})
    OmegaConf.update(config, "limits.max_params", 1e6)
    with pytest.raises(ValueError, match=r"runner=finetune with limits\.max_params"):
        check_config(config, SelectConfig, {})


@pytest.mark.parametrize(
    "options",
    [
        {"replay": {"dataset": "wiki"}, "benchmark": "zoo", "n_samples_full": 800},
        {"measure": "loss_per_byte", "logger": "none", "sizes": None, "store": "there"},
        {"selector": "lensllm", "dataset": "wiki", "seed": 1, "learning_rate": 1e-3},
        {"runner": COMMAND, "dataset": "wiki", "sizes": [200], "logger": "csv", "seed": 1},
        {"runner": "finetune", "batch_size": 8, "limits": {"max_params": 1e6}},
    ],
)
def test_what_the_runner_or_the_selector_uses_is_taken(options):
    config, given = configure("select", {"runner": "replay", **options})
    check_config(config, SelectConfig, given)


def test_data_in_memory_are_refused_where_none_are_read(tmp_path):
    rows = [("a", "b")] * 50
    with pytest.raises(ValueError, match=r"Expected replay.dataset=NAME with runner=replay"):
        lensllm.select(rows, runner="replay", output=tmp_path / "out")
