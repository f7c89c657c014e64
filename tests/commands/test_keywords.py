import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from lensllm.commands.command_line import as_meant
from lensllm.commands.conf import conf_dir
from lensllm.commands.keywords import configure


def of_words(words):
    """The configuration of `lensllm select` with these words."""
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    cfg = loader.load_configuration("select", as_meant(words), RunMode.RUN, from_shell=False)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"learning_rate": 1e-4, "batch_size": 8}, ["optimizer.lr=1e-4", "training.batch_size=8"]),
        ({"epochs": 2, "seed": 3}, ["training.max_epochs=2", "seed=3"]),
        ({"finetune": "lora", "trainer": "gpu"}, ["finetune=lora", "trainer=gpu"]),
        ({"finetune": {"lora": {"rank": 4}}}, ["finetune=lora", "finetune.rank=4"]),
        ({"trainer": "a100"}, ["trainer=a100"]),  # a file that sets other groups as well
        ({"selector": {"ats": {"k": 4}}}, ["selector=ats", "selector.k=4"]),
        ({"optimizer": {"+eps": 1e-6}}, ["+optimizer.eps=1e-6"]),
        ({"dataset": {"file": {"path": "x.csv"}}}, ["dataset=file", "dataset.path=x.csv"]),
        ({"budget": {"limit": "2h"}}, ["budget=2h"]),
        ({"sizes": (0, 200), "store": "there"}, ["sizes=[0,200]", "paths.store_dir=there"]),
        ({"trial_time_limit": "30min"}, ["trial_time_limit=30min"]),
        ({"dataset": "file", "test_fraction": 0.3}, ["dataset=file", "dataset.test_fraction=0.3"]),
        ({"cache_dir": "there"}, ["paths.cache_dir=there"]),
        ({"logger": ["csv", "wandb"]}, ["logger=[csv,wandb]"]),
    ],
)
def test_keywords_are_the_settings_of_the_command(options, words):
    assert OmegaConf.to_yaml(configure("select", options)[0]) == OmegaConf.to_yaml(of_words(words))


def test_the_keys_that_were_set_are_known():
    _, keys = configure("select", {"epochs": 2, "optimizer": {"+eps": 1e-6}})
    assert keys == {"training.max_epochs": 2, "optimizer.eps": 1e-6}
