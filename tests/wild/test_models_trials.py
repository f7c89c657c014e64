"""Tiny models of many architectures, each through whole trials, against plain PyTorch."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from transformers import LlamaForCausalLM

from lensllm.core.trials import Trial
from lensllm.data.pairs import make_text_data
from lensllm.data.rows import nested_subset
from lensllm.finetune import ModelSource, TrainingSettings, run_trial, warmup_schedule
from lensllm.finetune.adapters import FULL, AdapterConfig
from lensllm.finetune.encoding import Example
from lensllm.finetune.probes import check_causal, probe
from tests.wild import models as wild

RATE = 0.5
SETTINGS = TrainingSettings(
    batch_size=20, max_epochs=1, n_evaluations=1, evaluation_share=None, evaluation_batch_size=5
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


@pytest.fixture(autouse=True)
def _no_peaks(monkeypatch):
    """Peaks of memory are not looked at here, and collecting garbage would take half the time."""
    monkeypatch.setattr("lensllm.finetune.trial.restart_peak", lambda: None)


@pytest.fixture(scope="module")
def data():
    texts = list(dict(wild.pairs(40)).items())
    return make_text_data("wild", texts[:20], texts[20:22], texts[22:30], 60, 20)


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
        source = ModelSource(str(folders(name)), name=name, finetune=AdapterConfig(method))
        for n_samples in (0, 20):
            result = run_trial(Trial(name, "wild", n_samples, 0), source, data, SETTINGS, **PARTS)
            expected = direct_loss(source, data, n_samples)
            assert result.test_loss == pytest.approx(expected, abs=1e-5)
            losses[method, n_samples] = expected
    assert losses["full", 0] == pytest.approx(losses["lora", 0], abs=1e-6)
    for method in ("full", "lora"):
        assert losses[method, 20] < losses[method, 0] - 1e-3  # it has learned
    assert all(map(math.isfinite, losses.values()))


@pytest.mark.parametrize("name", wild.MASKED)
def test_models_that_see_their_future_are_refused_before_anything_is_spent(folders, data, name):
    source = ModelSource(str(folders(name)), name=name)
    with pytest.raises(ValueError, match=rf"from those before it, got {name} \(\w+\): its logits"):
        run_trial(Trial(name, "wild", 20, 0), source, data, SETTINGS, **PARTS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_masked_model_set_up_as_a_decoder_is_one(tmp_path, data, dtype):
    masked = wild.save(tmp_path / "masked", "bert")
    decoder = wild.save(tmp_path / "decoder", "bert", is_decoder=True)
    example = Example((5, 6, 7, 8), (9, 10, 11, 2), 1)
    check_causal(ModelSource(str(decoder), dtype=dtype).load_model().eval(), example, "decoder")
    with pytest.raises(ValueError, match=r"got masked \(BertLMHeadModel\)"):
        probe(
            ModelSource(str(masked), dtype=dtype).load_model(), ModelSource(str(masked)),
            [example], 0,
        )  # fmt: skip
    source = ModelSource(str(decoder))
    result = run_trial(Trial("decoder", "wild", 0, 0), source, data, SETTINGS, **PARTS)
    assert result.test_loss == pytest.approx(direct_loss(source, data, 0), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "padding"),
    [
        ("llama", {}, "left"),
        ("rwkv", {}, "right"),  # it runs over padding as over text
        ("roberta", {"is_decoder": True}, "right"),  # its positions begin behind the padding id
        ("t5", {}, "right"),
    ],
)
def test_batches_are_padded_where_it_changes_nothing(tmp_path, data, name, changes, padding):
    source = ModelSource(str(wild.save(tmp_path / name, name, **changes)))
    losses = []
    for size in (1, 3, 8):
        settings = replace(SETTINGS, evaluation_batch_size=size)
        result = run_trial(Trial(name, "wild", 0, 0), source, data, settings, **PARTS)
        assert result.data["padding"] == padding
        losses.append(result.test_loss)
    expected = direct_loss(source, data, 0)
    assert losses == pytest.approx([expected] * 3, abs=1e-5)


def test_where_no_padding_is_right_examples_go_through_one_by_one(folders, data, monkeypatch):
    """A model whose logits depend on the whole batch."""
    source = ModelSource(str(folders("llama")), name="llama")
    expected = {n: direct_loss(source, data, n) for n in (0, 20)}
    plain = LlamaForCausalLM.forward

    def forward(self, input_ids, **given):
        found = plain(self, input_ids, **given)
        found.logits = found.logits * len(input_ids)
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    monkeypatch.setattr("lensllm.finetune.probes.check_causal", lambda *_: None)
    for n_samples, loss in expected.items():
        result = run_trial(Trial("llama", "wild", n_samples, 0), source, data, SETTINGS, **PARTS)
        assert result.data["padding"] == "none"
        assert result.test_loss == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("kind", ["mbart", "nllb"])
def test_targets_of_translators_carry_their_language(tmp_path, data, kind):
    """The loss is the one that transformers computes from labels that the tokenizer makes."""
    tokenizer = wild.translator(kind, tgt_lang="de_DE" if kind == "mbart" else "deu_Latn")
    name = "mbart" if kind == "mbart" else "m2m_100"
    folder = wild.save(tmp_path / kind, name, tokenizer, vocab_size=len(tokenizer))
    source = ModelSource(str(folder))
    result = run_trial(Trial(kind, "wild", 0, 0), source, data, SETTINGS, **PARTS)
    model, total, count = source.load_model(), 0.0, 0
    for given, target in data.test:
        labels = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        inputs = tokenizer(f"{given}\n", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += float(model(input_ids=inputs, labels=labels).loss) * labels.shape[1]
        count += labels.shape[1]
    assert result.test_loss == pytest.approx(total / count, abs=1e-5)


def test_translators_that_do_not_know_the_language_of_targets_are_refused(tmp_path, data):
    tokenizer = wild.translator("nllb", tgt_lang=None)
    folder = wild.save(tmp_path / "nllb", "m2m_100", tokenizer, vocab_size=len(tokenizer))
    with pytest.raises(ValueError, match=r"language of targets with .*nllb.*`tgt_lang`"):
        run_trial(Trial("nllb", "wild", 0, 0), ModelSource(str(folder)), data, SETTINGS, **PARTS)


def test_experts_are_charged_for_what_a_token_uses(folders, data):
    """Mixtral sends a token to 2 of 4 experts."""
    source = ModelSource(str(folders("mixtral")), name="mixtral")
    experts = sum(
        p.numel() for name, p in source.load_model().named_parameters() if ".experts." in name
    )
    used = source.n_params - experts / 2
    assert 0 < experts < source.n_params
    assert source.flops_per_token == (6 * used, 2 * used)
    result = run_trial(Trial("mixtral", "wild", 0, 0), source, data, SETTINGS, **PARTS)
    tokens = sum(len(wild.byte_level()(f"{a}\n{b}")["input_ids"]) + 1 for a, b in data.test)
    assert result.flops == 2 * used * tokens
    assert result.n_params == source.n_params


def test_the_documentation_lists_what_went_through_trials():
    text = (Path(__file__).parents[2] / "docs" / "results" / "architectures.md").read_text(
        encoding="utf-8"
    )
    listed = re.findall(r"^\| `(\w+)` \| \w+ \| [\d.]+ \|", text, re.MULTILINE)
    assert listed == TRAINED
    assert len(listed) > 20
