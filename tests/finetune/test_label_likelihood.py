"""Likelihoods of labels are those of a plain loop over inputs, labels and tokens."""

import numpy as np
import pytest
import torch

from lensllm.finetune.encoding import Collator, decoder_inputs
from lensllm.finetune.label_likelihood import label_log_likelihoods, with_labels
from tests.finetune.test_generation import PAIRS, ZOO, load

LABELS = ("noun", "noun.animal", "verb")


def plain_likelihood(model, example):
    """Sum of the log-probabilities of the target's tokens, without padding or cache."""
    target = torch.tensor([example.target])
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            given = decoder_inputs(model, target)
            source = torch.tensor([example.source])
            logits = model(input_ids=source, decoder_input_ids=given).logits[0]
        else:
            row = torch.tensor([example.source + example.target[:-1]])
            logits = model(row).logits[0, len(example.source) - 1 :]
    steps = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(steps[i, token]) for i, token in enumerate(example.target))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("padding", ["usual", "none"])
def test_likelihoods_are_those_of_a_plain_loop(name, padding):
    model, encoder, pad = load(name)
    is_encoder_decoder = model.config.is_encoder_decoder
    usual = "right" if is_encoder_decoder else "left"
    padding = usual if padding == "usual" else padding
    collate = Collator(pad, is_encoder_decoder=is_encoder_decoder, padding=padding)
    rows = with_labels(encoder, [given for given, _ in PAIRS], LABELS)
    found, n_tokens = label_log_likelihoods(model, rows, collate, 6)
    expected = [[plain_likelihood(model, example) for example in row] for row in rows]
    assert np.allclose(found, expected, atol=1e-3)
    assert found.shape == (4, 3)
    each = sum(example.n_tokens for row in rows for example in row)
    shared = each - 2 * sum(len(row[0].source) for row in rows)
    assert n_tokens == (shared if padding == usual or is_encoder_decoder else each)


def test_a_label_without_a_token_is_refused():
    _, encoder, _ = load("gpt2-48x2")
    with pytest.raises(ValueError, match="labels with at least one token in the vocabulary of"):
        with_labels(encoder, ["x"], ["noun", ""])
