import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lensllm.core.trials import Trial
from lensllm.data.pairs import make_text_data
from lensllm.data.rows import nested_subset
from lensllm.finetune import ModelSource, TrainingSettings, run_trial
from lensllm.finetune.encoding import PairEncoder
from lensllm.finetune.module import LanguageModelModule, warmup_schedule
from lensllm.finetune.trial import BestWeights

SETTINGS = TrainingSettings(
    batch_size=8, max_epochs=2, patience=20, n_evaluations=4, evaluation_batch_size=10
)


class Spy(BestWeights):
    """Stands in for `BestWeights` and keeps what a run would otherwise throw away."""

    runs: list = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.modes, self.losses, self.rates, self.weights, self.kept = [], [], [], [], None
        Spy.runs.append(self)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.modes.append(all(module.training for module in pl_module.model.modules()))
        self.losses.append(float(outputs["loss"]))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer, pl_module):
        self.weights.append({k: v.clone() for k, v in pl_module.model.state_dict().items()})
        self.evaluating = pl_module.model.training

    def on_test_start(self, trainer, pl_module):
        self.kept = {k: v.clone() for k, v in pl_module.model.state_dict().items()}


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr("lensllm.finetune.trial.BestWeights", Spy)
    Spy.runs.clear()
    return Spy.runs


@pytest.fixture
def run(model_folders, text_data, make_parts):
    def run(name="gpt2", n_samples=24, seed=0, settings=SETTINGS, data=text_data, **parts):
        folder = model_folders.get(name, name)
        trial = Trial(str(name), data.name, n_samples, seed)
        return run_trial(
            trial, ModelSource(str(folder)), data, settings, **{**make_parts(), **parts}
        )

    return run


@pytest.fixture(scope="module")
def dropout_model(tmp_path_factory, tokenizer):
    """A tiny GPT-2 with strong dropout."""
    config = AutoConfig.for_model(
        "gpt2",
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=128,
        resid_pdrop=0.3,
        embd_pdrop=0.3,
        attn_pdrop=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dropout") / "dropout-gpt2"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain_loss(folder, tokenizer, pairs, data):
    """Summed loss, target tokens and target bytes of the loaded model, one pair at a time."""
    model = ModelSource(str(folder)).load_model().double().eval()
    total, tokens, n_bytes, seen = 0.0, 0, 0, 0
    for source, target in pairs:
        prompt = tokenizer(source)["input_ids"][: data.max_input_tokens]
        prompt += tokenizer("\n")["input_ids"]
        answer = [*tokenizer(target)["input_ids"], tokenizer.eos_token_id]
        assert len(answer) <= data.max_target_tokens  # none is cut
        n_bytes += len(target.encode())
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
        log_p = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
        total -= float(log_p[torch.arange(len(answer)), torch.tensor(answer)].sum())
        tokens += len(answer)
        seen += len(prompt) + len(answer)
    return total, tokens, n_bytes, seen


def test_zero_samples_measure_the_pre_trained_model(run, model_folders, tokenizer, text_data):
    result = run(n_samples=0)
    total, tokens, n_bytes, seen = plain_loss(
        model_folders["gpt2"], tokenizer, text_data.test, text_data
    )
    assert result.status == "completed"
    assert result.test_loss == pytest.approx(total / tokens, rel=1e-6)
    assert result.test_loss_per_byte == pytest.approx(total / n_bytes, rel=1e-6)
    assert result.flops == 2.0 * result.n_params * seen
    assert (result.train_flops, result.n_tokens, result.n_steps, result.best_step) == (0, 0, 0, 0)
    assert result.trace == ()
    assert math.isnan(result.validation_loss)
    assert result.test_loss == run(n_samples=0, seed=5).test_loss


def test_what_was_cut_is_counted(run, tokenizer, text_data):
    short = replace(text_data, max_input_tokens=12, max_target_tokens=3)
    result = run(n_samples=8, data=short)
    seen = [*(text_data.train[i] for i in nested_subset(80, 8, 0)), *text_data.validation]
    seen += text_data.test
    inputs = [len(tokenizer(a)["input_ids"]) > 12 for a, _ in seen]
    assert 0 < sum(inputs) == result.cut_inputs
    targets = [len(tokenizer(b)["input_ids"]) > 3 - 1 for _, b in seen]  # one is the end token
    assert 0 < sum(targets) == result.cut_targets
    assert result.dropped_pairs == 0
    evaluated = {"validation_pairs": 15, "evaluations": 2}
    evaluated |= {"padding": "left", "lost_target_bytes": 0.0}
    evaluated |= {"micro_batch_size": None, "evaluation_batch_size": 10}
    assert result.data == short.summary() | evaluated
    assert [result.data[f"n_{split}"] for split in ("train", "validation", "test")] == [80, 15, 25]


@pytest.mark.parametrize(("n_samples", "split"), [(8, "train"), (0, "validation")])
def test_targets_that_have_no_token_are_told_before_training(run, text_data, n_samples, split):
    empty = {name: [(a, "") for a, _ in getattr(text_data, name)] for name in ("train", split)}
    nothing = replace(text_data, **empty)
    message = rf"Expected {split} targets .* for \S+gpt2 on 'toy', got none: look at"
    with pytest.raises(ValueError, match=message):
        run(n_samples=n_samples, data=nothing)


def test_dropped_pairs_are_counted_and_told(run, text_data, caplog):
    """An empty target stands for one that a tokenizer makes nothing of."""
    pairs = [(a, "" if i % 5 == 0 else b) for i, (a, b) in enumerate(text_data.train)]
    assert run(n_samples=80, data=replace(text_data, train=pairs)).dropped_pairs == 16
    assert "Dropped 16 of 120 pairs of toy for tiny-gpt2: their targets have no tok" in caplog.text


def test_the_loss_weighs_tokens_and_not_batches(run, pairs):
    """Test targets of very different lengths: batch means would be far off."""
    test = [(a, b if i % 2 else "X") for i, (a, b) in enumerate(pairs[95:])]
    data = make_text_data("toy", pairs[:80], pairs[80:95], test, 48, 24)
    losses = {
        run(
            n_samples=0, data=data, settings=replace(SETTINGS, evaluation_batch_size=size)
        ).test_loss
        for size in (1, 4, 64)
    }
    assert max(losses) - min(losses) < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_training_lowers_the_loss_and_counts_what_it_cost(run, tokenizer, text_data, name):
    before, after = run(name, n_samples=0), run(name, n_samples=80)
    assert after.status == "completed"
    assert after.test_loss < before.test_loss - 0.1
    encoder = PairEncoder(
        tokenizer, is_encoder_decoder=name == "t5", max_input_tokens=48, max_target_tokens=24
    )

    def count(pairs):
        return sum(example.n_tokens for example in encoder.encode(pairs))

    subset = [text_data.train[i] for i in nested_subset(80, 80, 0)]
    assert after.n_steps == 2 * 10
    assert after.n_tokens == 2 * count(subset)
    evaluated = 4 * count(text_data.validation) + count(text_data.test)
    assert after.train_flops == 6.0 * after.n_params * after.n_tokens
    assert after.flops == after.train_flops + 2.0 * after.n_params * evaluated
    assert [step for step, _ in after.trace] == [5, 10, 15, 20]
    assert after.validation_loss == pytest.approx(min(x for _, x in after.trace), rel=1e-6)
    assert after.best_step == min(after.trace, key=lambda point: point[1])[0]
    assert after.seconds > 0
    assert after.peak_memory_bytes > 10**7
    assert after.family == name
    assert {"torch", "transformers", "lensllm", "python"} <= set(after.versions)


def test_equal_seeds_give_equal_bits_and_others_do_not(run, dropout_model, spy):
    def outcome(seed):
        result = run(dropout_model, seed=seed)
        return result.test_loss, result.trace, result.n_tokens, tuple(spy[-1].losses)

    first = outcome(0)
    torch.manual_seed(99)
    assert outcome(0) == first
    assert outcome(1)[3] != first[3]


def test_models_train_in_train_mode_and_are_measured_in_eval_mode(run, dropout_model, spy):
    result = run(dropout_model, n_samples=16, make_optimizer=partial(torch.optim.SGD, lr=0.0))
    (seen,) = spy
    assert seen.modes == [True] * 4
    assert seen.evaluating is False
    # Nothing is learned at a rate of 0: two passes differ by their dropout alone.
    assert sorted(seen.losses[:2]) != pytest.approx(sorted(seen.losses[2:]), rel=1e-6)
    assert len({loss for _, loss in result.trace}) == 1
    assert result.test_loss == pytest.approx(run(dropout_model, n_samples=0).test_loss, rel=1e-6)


def test_the_best_weights_are_measured_and_not_the_last(run, spy, monkeypatch):
    """A rate that explodes after the first evaluation makes all later weights worse."""

    def explode(optimizer, n_steps):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 if step < 2 else 300)

    monkeypatch.setattr(Spy, "on_validation_end", BestWeights.on_validation_end, raising=False)
    result = run(n_samples=32, make_scheduler=explode)
    assert [step for step, _ in result.trace] == [2, 4, 6, 8]
    assert all(loss > result.trace[0][1] + 0.1 for _, loss in result.trace[1:])
    assert (result.best_step, result.validation_loss) == pytest.approx(result.trace[0], rel=1e-6)
    (seen,) = spy
    for name, value in seen.kept.items():
        assert torch.equal(value, seen.weights[0][name])
    assert any(not torch.equal(seen.weights[-1][k], v) for k, v in seen.kept.items())


def test_training_stops_early_without_progress(run):
    still = partial(torch.optim.SGD, lr=0.0)
    settings = replace(SETTINGS, patience=2, n_evaluations=8, evaluation_share=None)
    result = run(n_samples=32, settings=settings, make_optimizer=still)
    assert [step for step, _ in result.trace] == [1, 2, 3]
    assert result.n_steps == 3
    assert result.best_step == 1


def test_a_diverged_run_is_a_result(run):
    result = run(make_optimizer=partial(torch.optim.SGD, lr=1e35), n_samples=80)
    assert result.status == "diverged"
    assert math.isnan(result.test_loss)
    assert math.isnan(result.test_loss_per_byte)
    assert 0 < result.n_steps < 20
    assert result.n_tokens > 0
    assert result.flops >= result.train_flops == 6.0 * result.n_params * result.n_tokens
    result.to_json()


def test_a_test_loss_that_is_not_finite_is_diverged(run, model_folders, tmp_path, tokenizer):
    model = ModelSource(str(model_folders["gpt2"])).load_model()
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(math.nan)
    model.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    result = run(tmp_path / "broken", n_samples=0)
    assert result.status == "diverged"
    assert math.isnan(result.test_loss)


def test_gradients_are_clipped_and_the_rate_warms_up(run, spy):
    result = run(n_samples=80, settings=replace(SETTINGS, n_evaluations=1))
    assert result.n_steps == 20
    rates = [3e-3 * min(step / 2, (20 - step) / 18) for step in range(1, 20)] + [0.0]
    assert spy[0].rates == pytest.approx(rates, abs=1e-9)


def test_more_samples_than_pairs_are_refused(run):
    with pytest.raises(ValueError, match=r"`n_samples` <= 80, .*got 81"):
        run(n_samples=81)


def test_weight_decay_is_on_matrices_alone(model_folders):
    for name in ("gpt2", "llama", "t5", "bart"):
        model = ModelSource(str(model_folders[name])).load_model()
        make = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01)
        module = LanguageModelModule(model, make, lambda optimizer, n: None)
        module._trainer = SimpleNamespace(estimated_stepping_batches=5)
        groups = module.configure_optimizers()["optimizer"].param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        named = dict(model.named_parameters())
        assert len(decay) == len(named)
        for key, parameter in named.items():
            plain = key.endswith("bias") or "norm" in key or ".ln_" in key
            assert decay[id(parameter)] == (0.0 if plain and parameter.ndim < 2 else 0.01), key


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("linear", [0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]),
        ("constant_with_warmup", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [0.5, 1] + [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(1, 9)]),
    ],
)
def test_schedules_warm_up_and_fall(name, factors):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_schedule(optimizer, 10, name=name, warmup_fraction=0.2)
    rates = []
    for _ in range(10):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([2.0 * factor for factor in factors], abs=1e-12)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_warm_up_is_a_share(fraction):
    with pytest.raises(ValueError, match=rf"in \[0, 1\), got {fraction}"):
        warmup_schedule(None, 10, warmup_fraction=fraction)


@pytest.mark.parametrize(
    "name", ["batch_size", "max_epochs", "patience", "n_evaluations", "evaluation_batch_size"]
)
@pytest.mark.parametrize("value", [0, -3])
def test_settings_are_positive(name, value):
    with pytest.raises(ValueError, match=f"`{name}` > 0, got {value}"):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [("micro_batch_size", "all", ", auto or null"), ("micro_batch_size", 2.5, ", auto or null"),
     ("batch_size", 2.5, "")],
)  # fmt: skip
def test_settings_are_whole_numbers(name, value, kinds):
    with pytest.raises(ValueError, match=f"a whole number{kinds} as `{name}`, got {value!r}"):
        TrainingSettings(**{name: value})


def test_steps_of_a_run():
    assert TrainingSettings(batch_size=16, max_epochs=3).n_steps(200) == 3 * 13
    assert TrainingSettings(batch_size=16, max_epochs=3).n_steps(0) == 0
