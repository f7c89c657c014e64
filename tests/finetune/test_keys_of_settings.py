"""What is in a trial's key, what is free by name, and what is refused."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from lensllm.finetune.adapters import FULL, AdapterConfig
from lensllm.finetune.trial_keys import check_trainer, describe, environment, trainer_settings


def test_description_of_a_factory_is_plain_json():
    make = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.999), foreach=None)
    assert describe(make) == {
        "name": "torch.optim.adamw.AdamW",
        "lr": 1e-3,
        "betas": [0.9, 0.999],
        "foreach": None,
    }
    assert describe(torch.optim.SGD) == {"name": "torch.optim.sgd.SGD"}
    assert describe(partial(make, lr=0.1))["lr"] == 0.1
    inner = describe(partial(len, key=partial(sorted, reverse=True)))
    assert inner["key"] == {"name": "builtins.sorted", "reverse": True}


def test_equal_names_of_two_modules_are_two():
    class AdamW(torch.optim.SGD):
        pass

    assert describe(AdamW)["name"] != describe(torch.optim.AdamW)["name"]


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"as optimizer\.hook, got an object of type object"):
        describe(partial(len, hook=object()), "optimizer")
    with pytest.raises(ValueError, match="settings of scheduler by name"):
        describe(partial(len, [1]), "scheduler")


def test_trainer_arguments_that_change_no_number_are_free():
    make = partial(pl.Trainer, precision="32-true", enable_progress_bar=False)
    assert trainer_settings(make, 8) == trainer_settings(
        partial(pl.Trainer, precision="32-true", enable_progress_bar=True), 8
    )
    clipped = partial(make, gradient_clip_val=1.0)
    assert trainer_settings(clipped, 8) != trainer_settings(make, 8)
    assert trainer_settings(clipped, 0) == trainer_settings(make, 0)
    limited = partial(make, limit_test_batches=1)
    assert trainer_settings(limited, 0) != trainer_settings(make, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_clip_val": -1}, r"trainer\.gradient_clip_val >= 0 or null, got -1"),
        ({"gradient_clip_val": float("nan")}, "got nan"),
        ({"gradient_clip_val": True}, "got True"),
        ({"max_epochs": 3}, r"no trainer\.max_epochs.*set training\.max_epochs"),
        ({"callbacks": []}, r"no trainer\.callbacks"),
        ({"default_root_dir": "."}, r"no trainer\.default_root_dir"),
        ({"max_time": "00:00:01:00"}, r"no trainer\.max_time.*max_steps"),
        ({"enable_progress_bar": "maybe"}, r"enable_progress_bar to be true or false, got 'maybe'"),
        ({"inference_mode": "no"}, r"inference_mode to be true or false"),
        ({"limit_test_batches": 0}, r"limit_test_batches > 0"),
        ({"limit_train_batches": -1}, r"limit_train_batches > 0"),
        ({"strategy": object()}, r"trainer\.strategy, got an object"),
    ],
)
def test_trainer_arguments_are_looked_at_first(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_trainer(partial(pl.Trainer, **arguments))


def test_versions_of_what_computes_are_in_the_key():
    assert environment(FULL)["torch"] == torch.__version__
    assert {"transformers", "tokenizers", "pytorch-lightning", "recipe"} <= set(environment(FULL))
    assert "peft" not in environment(FULL)
    assert "peft" in environment(AdapterConfig("lora"))
