"""Tiny models of many architectures, each through whole trials, against plain PyTorch."""

import math
from functools import partial

import models as wild
import pytest
import pytorch_lightning as pl
import torch

from lensllm.data.pairs import make_text_data
from lensllm.finetune import ModelSource, TrainingSettings, run_trial, warmup_schedule
from lensllm.finetune.adapters import FULL, FineTuning
from lensllm.finetune.encoding import nested_subset
from lensllm.trials import Trial

RATE = 0.5
SETTINGS = TrainingSettings(
    batch_size=20, max_epochs=1, n_evaluations=1, evaluation_share=None, evaluation_batch_size=7
)
# One step of plain gradient descent: Adam's first step would blow rounding up to its own size.
PARTS = {
    "make_optimizer": partial(torch.optim.SGD, lr=RATE),
    "make_scheduler": partial(warmup_schedule, name="constant", warmup_fraction=0.0),
    "make_trainer": partial(
        pl.Trainer,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        enable_progress_bar=False,
    ),
}
TRAINED = [name for name in wild.ARCHITECTURES if name not in (*wild.MASKED, "llama", "mbart")]


@pytest.fixture(scope="module")
def data():
    texts = list(dict(wild.pairs(60)).items())
    return make_text_data("wild", texts[:24], texts[24:30], texts[30:45], 60, 20)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("wild")
    made = {}

    def folder(name):
        if name not in made:
            made[name] = wild.save(root / name, name)
        return made[name]

    return folder


def direct_sum(model, pair):
    """Summed cross-entropy of one pair's target, alone, by the model's plain forward pass."""
    tokenizer = wild.byte_level()
    given = tokenizer(f"{pair[0]}\n")["input_ids"]
    target = [*tokenizer(pair[1])["input_ids"], tokenizer.eos_token_id]
    if model.config.is_encoder_decoder:
        start = [model.config.decoder_start_token_id, *target[:-1]]
        logits = model(
            input_ids=torch.tensor([given]), decoder_input_ids=torch.tensor([start])
        ).logits[0]
    else:
        logits = model(input_ids=torch.tensor([given + target]), use_cache=False).logits[0]
        logits = logits[len(given) - 1 : -1]
    picked = logits.log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)]
    return -picked.sum(), len(target)


def direct_mean(model, pairs):
    found = [direct_sum(model, pair) for pair in pairs]
    return sum(total for total, _ in found) / sum(count for _, count in found)


def direct_loss(source, data, n_samples):
    """Test loss after one step of gradient descent on the subset, or before any."""
    pl.seed_everything(0, verbose=False)
    model = (source.finetune or FULL).prepare(source.load_model()).train()
    if n_samples:
        subset = [data.train[i] for i in nested_subset(len(data.train), n_samples, 0)]
        direct_mean(model, subset).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
    with torch.no_grad():
        return float(direct_mean(model.eval(), list(data.test)))


@pytest.mark.parametrize("name", TRAINED)
def test_losses_of_every_architecture_are_those_of_plain_pytorch(folders, data, name):
    losses = {}
    for method in ("full", "lora"):
        source = ModelSource(str(folders(name)), name=name, finetune=FineTuning(method))
        for n_samples in (0, 20):
            result = run_trial(Trial(name, "wild", n_samples, 0), source, data, SETTINGS, **PARTS)
            expected = direct_loss(source, data, n_samples)
            assert result.test_loss == pytest.approx(expected, abs=1e-5)
            losses[method, n_samples] = expected
    assert losses["full", 0] == losses["lora", 0]
    for method in ("full", "lora"):
        assert losses[method, 20] < losses[method, 0] - 1e-3  # it has learned
    assert all(map(math.isfinite, losses.values()))
