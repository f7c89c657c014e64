"""Greedy answers of padded batches are those of plain `generate`, one prompt at a time."""

import pytest
import torch

from lensllm.data.pairs import make_text_data
from lensllm.finetune.generation import greedy_answers
from lensllm.finetune.models import ModelSource
from lensllm.finetune.trial import make_encoder

ZOO = ("gpt2-48x2", "opt-64x2", "neox-80x3", "llama-64x3", "t5-96x2", "bart-64x2")
PAIRS = [
    ("def add(a, b): return a + b", "Add two numbers."),
    ("def largest(values): return sorted(values)[-1]  # the largest of all", "The largest."),
    ("x", "Nothing."),
    ("class Node: pass", "A node of the tree."),
]
DATA = make_text_data("code", PAIRS, PAIRS, PAIRS, 40, 16)


def load(name, prompt="{input}\n"):
    source = ModelSource(name)
    tokenizer = source.load_tokenizer()
    encoder = make_encoder(source, tokenizer, DATA, prompt)
    return source.load_model().eval(), encoder, source.padding(tokenizer.pad_token_id)


def plain_answer(model, encoder, pad, prompt, max_new_tokens):
    tokenizer = encoder.tokenizer
    with torch.no_grad():
        found = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
        )[0]
    found = found[1:] if model.config.is_encoder_decoder else found[len(prompt) :]
    return tokenizer.decode(found, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ZOO)
def test_a_padded_batch_answers_as_each_prompt_alone(name):
    model, encoder, pad = load(name)
    prompts = encoder.prompts([given for given, _ in PAIRS])
    assert prompts == [example.source for example in encoder.encode(PAIRS)]
    padding = "right" if model.config.is_encoder_decoder else "left"
    options = {"pad_token_id": pad, "padding": padding}
    found, n_tokens = greedy_answers(model, encoder, prompts, 12, batch_size=3, **options)
    assert found == [plain_answer(model, encoder, pad, prompt, 12) for prompt in prompts]
    most = sum(map(len, prompts)) + 12 * len(prompts)
    assert sum(map(len, prompts)) < n_tokens <= most
    one, _ = greedy_answers(model, encoder, prompts, 1, batch_size=4, **options)
    assert all(long.startswith(short) for short, long in zip(one, found, strict=True))


def test_a_models_own_way_of_decoding_is_left_alone_and_not_used():
    model, encoder, pad = load("t5-96x2")
    prompts = encoder.prompts([given for given, _ in PAIRS])
    options = {"pad_token_id": pad, "padding": "right", "batch_size": 4}
    plain, _ = greedy_answers(model, encoder, prompts, 8, **options)
    own = {"num_beams": 3, "min_length": 8, "no_repeat_ngram_size": 1, "repetition_penalty": 5.0}
    model.generation_config.update(**own)
    assert greedy_answers(model, encoder, prompts, 8, **options)[0] == plain
    assert model.generation_config.num_beams == 3
    # a model that does not bear padding gets its prompts one by one
    assert greedy_answers(model, encoder, prompts, 8, **{**options, "padding": "none"})[0] == plain
