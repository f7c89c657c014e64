"""What a candidate's trials can cost at most, counted before anything is spent."""

from dataclasses import replace

import pytest

from lensllm.data.pairs import make_text_data
from lensllm.data.rows import nested_subset
from lensllm.finetune import ModelSource, TrainingSettings, inspection
from lensllm.finetune.inspection import count_tokens, measure_pairs
from lensllm.finetune.trial import make_encoder

SETTINGS = TrainingSettings(evaluation_share=None, n_evaluations=3)


@pytest.fixture
def source(model_folders):
    return ModelSource(str(model_folders["gpt2"]))


def counts(source, data, settings, sizes, seed=0):
    encoder = make_encoder(source, source.load_tokenizer(), data, settings.prompt)
    return count_tokens(encoder, source, data, settings, sizes, seed)


def uneven(pairs):
    """Pairs whose first ones are short: their mean says little of a subset."""
    long = [(a * 2, b * 2) for a, b in pairs]
    return make_text_data("toy", [*pairs[:40], *long[40:80]], pairs[80:95], pairs[95:], 200, 100)


@pytest.mark.parametrize("seed", [0, 3])
def test_tokens_are_those_of_the_subset_itself(source, pairs, seed):
    data = uneven(pairs)
    found = counts(source, data, SETTINGS, [0, 8, 16, 80], seed)
    encoder = make_encoder(source, source.load_tokenizer(), data, SETTINGS.prompt)
    for size in (0, 8, 16, 80):
        subset = [data.train[i] for i in nested_subset(80, size, seed)]
        assert found.train[size] == sum(e.n_tokens for e in encoder.encode(subset))
    assert found.test == sum(e.n_tokens for e in encoder.encode(list(data.test)))
    once = sum(e.n_tokens for e in encoder.encode(list(data.validation)))
    assert found.validation == {0: 0, 8: 3 * once, 16: 3 * once, 80: 3 * once}
    assert found.longest == (
        max(len(e.source) for e in encoder.encode(list(data.train))),
        max(len(e.target) for e in encoder.encode(list(data.train))),
    )


def test_what_is_not_counted_is_bounded(source, pairs, monkeypatch):
    data = uneven(pairs)
    encoder = make_encoder(source, source.load_tokenizer(), data, SETTINGS.prompt)
    whole = sum(e.n_tokens for e in encoder.encode(list(data.train)))
    monkeypatch.setattr(inspection, "N_COUNTED", 30)
    for seed in range(20):
        assert counts(source, data, SETTINGS, [80], seed).train[80] >= whole
    monkeypatch.setattr(inspection, "N_ERRORS", 0.0)
    plain = [counts(source, data, SETTINGS, [80], seed).train[80] for seed in range(20)]
    assert min(plain) < whole < max(plain)


def test_validation_is_a_share_of_a_trial(source, pairs):
    data = make_text_data("toy", pairs[:20], pairs[20:], pairs[:25], 48, 24)
    settings = replace(SETTINGS, evaluation_share=0.5, n_evaluations=6, max_epochs=1)
    found = counts(source, data, settings, [4, 20])
    encoder = make_encoder(source, source.load_tokenizer(), data, settings.prompt)
    fifty = sum(e.n_tokens for e in encoder.encode(list(data.validation[:50])))
    assert found.validation == {0: 0, 4: 2 * fifty, 20: 2 * fifty}


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), True, "half"])
def test_shares_are_between_0_and_1(share):
    with pytest.raises(ValueError, match=r"training\.evaluation_share in \(0, 1\) or null"):
        TrainingSettings(evaluation_share=share)


def test_the_loss_of_pairs_is_finite(source, text_data):
    found = counts(source, text_data, SETTINGS, [8])
    assert 0 < measure_pairs(source, 0, found.sample) < 20
