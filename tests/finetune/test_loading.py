from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from lensllm.core.trials import Trial
from lensllm.finetune import ModelSource, TrainingSettings, run_trial
from lensllm.finetune.encoding import IGNORED, Collator, PairEncoder, target_loss
from lensllm.finetune.loading import make_loader, parts_of

SETTINGS = TrainingSettings(batch_size=8, max_epochs=2, patience=9, n_evaluations=3)


@pytest.fixture(scope="module")
def examples(tokenizer, pairs):
    encoder = PairEncoder(
        tokenizer, is_encoder_decoder=False, max_input_tokens=48, max_target_tokens=24
    )
    return encoder.encode([(a, b * (1 + i % 3)) for i, (a, b) in enumerate(pairs[:21])])


@pytest.mark.parametrize("n_parts", [1, 2, 3, 8, 11])
def test_a_batch_is_cut_into_as_many_parts_as_asked(n_parts):
    parts = parts_of(list(range(8)), n_parts)
    assert len(parts) == n_parts
    assert sorted(i for part in parts if part.counts for i in part.indices) == list(range(8))
    assert all(part.indices for part in parts)
    sizes = [len(part.indices) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [part.is_first for part in parts] == [True] + [False] * (n_parts - 1)


@pytest.mark.parametrize(("n_parts", "world_size"), [(3, 1), (1, 2), (2, 2), (8, 1)])
def test_parts_add_up_to_the_gradient_of_the_whole_batch(
    model_folders, examples, n_parts, world_size
):
    """As DDP does it: the mean over processes of the mean over accumulated micro-batches."""
    model = AutoModelForCausalLM.from_pretrained(model_folders["opt"]).double().eval()
    collator = Collator(0, is_encoder_decoder=False)

    def loaders(**options):
        return make_loader(examples, collator, 8, seed=3, shuffle=True, **options)

    def gradient(losses):
        model.zero_grad()
        sum(losses).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    whole = list(loaders())
    ranks = [
        list(loaders(n_parts=n_parts, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [len(rank) for rank in ranks] == [len(whole) * n_parts] * world_size
    for i, batch in enumerate(whole):  # one of them holds five examples
        total, n_targets = target_loss(model, batch)
        expected = gradient([total / n_targets])
        parts = [part for rank in ranks for part in rank[i * n_parts : (i + 1) * n_parts]]
        losses = [target_loss(model, part)[0] * part["loss_scale"] / len(parts) for part in parts]
        assert torch.allclose(gradient(losses), expected, rtol=1e-5, atol=1e-9)
        n_tokens = [int(part["n_tokens"]) for part in parts]
        assert sum(n_tokens) == world_size * int(batch["n_tokens"])
        labels = sum(int((part["labels"] != IGNORED).sum()) for part in parts)
        assert labels == int(n_targets)


def test_micro_batches_change_memory_and_not_the_result(model_folders, text_data, make_parts):
    source = ModelSource(str(model_folders["gpt2"]))
    trial = Trial(source.name, "toy", 45)

    def run(**changes):
        settings = replace(SETTINGS, **changes)
        return run_trial(trial, source, text_data, settings, **make_parts())

    whole = run()
    for changes in (
        {"micro_batch_size": 3},
        {"micro_batch_size": 1, "gradient_checkpointing": True},
    ):
        cut = run(**changes)
        assert cut.test_loss == pytest.approx(whole.test_loss, rel=1e-5)
        assert [step for step, _ in cut.trace] == [step for step, _ in whole.trace]
        assert (cut.n_steps, cut.n_tokens, cut.flops) == (
            whole.n_steps,
            whole.n_tokens,
            whole.flops,
        )


@pytest.mark.parametrize(
    ("settings", "world_size", "n_parts"),
    [(SETTINGS, 1, 1), (replace(SETTINGS, micro_batch_size=3), 1, 3), (SETTINGS, 4, 1),
     (replace(SETTINGS, micro_batch_size=1), 4, 2)],
)  # fmt: skip
def test_micro_batches_are_no_larger_than_asked(settings, world_size, n_parts):
    assert settings.n_parts(world_size) == n_parts
