import pytest
import torch

from lensllm.core.trials import Trial
from lensllm.finetune import AdapterConfig, ModelSource, TrainingSettings, run_trial
from lensllm.finetune.candidates import as_sources

LORA = AdapterConfig("lora", rank=4, alpha=8.0)
ARCHITECTURES = ("gpt2", "opt", "gpt_neox", "llama", "t5", "bart")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapters_change_nothing_at_first_and_are_all_that_trains(model_folders, name):
    source = ModelSource(str(model_folders[name]), finetune=LORA)
    plain, tuned = source.load_model().eval(), LORA.prepare(source.load_model().eval())
    assert type(tuned) is type(plain)
    ids = torch.arange(3, 11)[None]
    given = {"decoder_input_ids": ids} if name in ("t5", "bart") else {}
    with torch.no_grad():
        a, b = (model(input_ids=ids, **given).logits for model in (plain, tuned))
    assert torch.equal(a, b)
    trained = {n: p.numel() for n, p in tuned.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in n for n in trained)
    assert source.n_trainable == sum(trained.values())
    assert source.n_params == sum(p.numel() for p in tuned.parameters())


def test_rank_decides_how_much_is_trained(model_folders):
    """An adapter of a layer with `a` inputs and `b` outputs has rank (a + b) parameters."""
    folder = str(model_folders["llama"])
    expected = sum(
        4 * sum(module.weight.shape)
        for name, module in ModelSource(folder).load_model().named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    assert ModelSource(folder, finetune=LORA).n_trainable == expected


def test_a_trial_with_adapters_learns_and_is_charged_for_what_it_computes(text_data, make_parts):
    settings = TrainingSettings(batch_size=8, max_epochs=3, n_evaluations=3)
    source = ModelSource("opt-64x2", finetune=LORA)
    assert source.name == "opt-64x2+lora"
    trial = Trial(source.name, "toy", 80)
    result = run_trial(trial, source, text_data, settings, **make_parts(lr=1e-2))
    assert result.trace[-1][1] < result.trace[0][1] - 0.05
    assert result.best_step == result.n_steps
    per_token = 4 * source.n_params + 2 * source.n_trainable
    assert result.train_flops == per_token * result.n_tokens
    assert result.n_params == source.n_params


def test_candidates_say_how_they_are_tuned(model_folders):
    folder = str(model_folders["gpt2"])
    full, lora = as_sources([folder, f"{folder}+lora"])
    assert (full.name, lora.name) == ("tiny-gpt2", "tiny-gpt2+lora")
    assert full.finetune is None
    assert lora.finetune == AdapterConfig("lora")
    assert as_sources([f"{folder}+lora"], LORA)[0].finetune == LORA
    assert as_sources([folder], LORA)[0].name == "tiny-gpt2+lora"
    fixed = ModelSource(folder, finetune=AdapterConfig())
    assert as_sources([fixed], LORA) == [fixed]
    assert as_sources({"a": folder, "b": fixed}) == [ModelSource(folder), fixed]


def test_full_fine_tuning_leaves_the_key_as_it_is():
    assert AdapterConfig(learning_rate=1e-4).settings() == {}
    assert LORA.settings()["finetune"]["rank"] == 4
    assert "learning_rate" not in LORA.settings()["finetune"]


QLORA = AdapterConfig("qlora", rank=4, alpha=8.0)


def test_four_bits_need_a_package(model_folders, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    source = ModelSource(str(model_folders["gpt2"]), finetune=QLORA)
    assert source.n_trainable > 0
    with pytest.raises(ValueError, match="bitsandbytes for finetune=qlora, found none: `pip inst"):
        source.load_model()


@pytest.mark.slow
def test_a_trial_over_four_bit_weights_learns(text_data, make_parts):
    pytest.importorskip("bitsandbytes")
    settings = TrainingSettings(batch_size=8, max_epochs=3, n_evaluations=3)
    source = ModelSource("llama-128x4", finetune=QLORA)
    model = QLORA.prepare(source.load_model())
    assert sum(p.numel() for p in model.parameters()) < source.n_params  # two weights a byte
    result = run_trial(Trial(source.name, "toy", 80), source, text_data, settings, **make_parts())
    assert result.trace[-1][1] < result.trace[0][1] - 0.05
    per_token = 4 * source.n_params + 2 * source.n_trainable
    assert result.train_flops == per_token * result.n_tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "prefix"}, "among full, lora, qlora, got 'prefix'"),
        ({"rank": 0}, r"finetune\.rank > 0, got 0"),
        ({"learning_rate": -1.0}, r"finetune\.learning_rate > 0, got -1"),
        ({"dropout": 1.0}, r"finetune\.dropout in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdapterConfig(**options)
