"""A model's own answers: greedy decoding of many inputs at once, bounded in length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from lensllm.finetune.encoding import Padding, PairEncoder, decoder_inputs


def greedy_answers(
    model: Any,
    encoder: PairEncoder,
    sources: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    *,
    pad_token_id: int,
    padding: Padding,
    batch_size: int,
) -> tuple[list[str], int]:
    """Decode the answer to each prompt: at every step the token with the largest probability.

    An answer ends before the tokens that end a target in training, or after `max_new_tokens`. The
    model's own `generation_config` (beams, penalties, forced tokens) is not used. Decoder-only
    batches are padded on the left; models that do not tolerate this get one prompt at a time.

    Args:
        model: A causal or encoder-decoder model of `transformers` in eval mode.
        encoder: The model's encoder of pairs, which knows how targets start and end.
        sources: Token ids of the prompts.
        max_new_tokens: Most tokens of an answer, its end included.
        pad_token_id: Token id of padding.
        padding: The padding that does not change losses (`lensllm.finetune.probes`).
        batch_size: Prompts per batch.

    Returns:
        The answers without surrounding white space, in the order of the prompts; and the tokens
        that the model processed, prompts and answers.
    """
    is_decoder = not model.config.is_encoder_decoder
    if padding == "none" or (is_decoder and padding != "left"):
        batch_size = 1
    stops = _stop_tokens(encoder)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        pad_token_id=pad_token_id,
        eos_token_id=stops or None,
    )
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers: list[list[int]] = [[]] * len(sources)
    with _plain_generation(model) as plain, torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = _padded([sources[i] for i in rows], pad_token_id, is_decoder, plain.device)
            if not is_decoder:
                first = _decoder_prefix(plain, encoder).expand(len(rows), -1)
                config.decoder_start_token_id = int(first[0, 0])
                inputs["decoder_input_ids"] = first
            known = inputs["input_ids"] if is_decoder else inputs["decoder_input_ids"]
            found = plain.generate(**inputs, generation_config=config)[:, known.shape[1] :]
            for i, ids in zip(rows, found.tolist(), strict=True):
                answers[i] = ids
    kept = [_until_end(ids, stops) for ids in answers]
    n_tokens = sum(len(source) for source in sources) + sum(map(len, kept))
    return [_text(encoder, ids, stops) for ids in kept], n_tokens


@contextmanager
def _plain_generation(model: Any) -> Iterator[Any]:
    """The model without its own defaults of decoding, which would fill in what is not given."""
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    own, plain.generation_config = plain.generation_config, GenerationConfig()
    try:
        yield plain
    finally:
        plain.generation_config = own


def _padded(
    sources: Sequence[tuple[int, ...]], pad_token_id: int, is_decoder: bool, device: Any
) -> dict[str, Any]:
    """One batch of prompts with its mask."""
    side = "left" if is_decoder else "right"
    rows = [torch.tensor(source) for source in sources]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_token_id, padding_side=side)
    masks = [torch.ones_like(row) for row in rows]
    mask = pad_sequence(masks, batch_first=True, padding_side=side)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _decoder_prefix(model: Any, encoder: PairEncoder) -> torch.Tensor:
    """What the decoder is given before the first token of a target, as in training, (1, length)."""
    target = [*encoder.opening, 0, *encoder.ending]
    labels = torch.tensor([target], device=model.device)
    return decoder_inputs(model, labels)[:, : 1 + len(encoder.opening)]


def _stop_tokens(encoder: PairEncoder) -> list[int]:
    """Tokens at which an answer ends: the end token, and a special token that ends a turn."""
    tokenizer = encoder.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    found = [tokenizer.eos_token_id, *(t for t in encoder.ending[:1] if t in special)]
    return sorted({int(token) for token in found if token is not None})


def _until_end(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The tokens up to the first end, which is kept."""
    ends = [i for i, token in enumerate(ids) if token in stops]
    return list(ids[: ends[0] + 1] if ends else ids)


def _text(encoder: PairEncoder, ids: Sequence[int], stops: Sequence[int]) -> str:
    """The text of an answer; what ends a turn in plain tokens is cut as well."""
    ending = encoder.ending
    places = range(len(ids) - len(ending) + 1)
    end = next((i for i in places if ending and tuple(ids[i : i + len(ending)]) == ending), None)
    kept = [token for token in ids[:end] if token not in stops]
    text = encoder.tokenizer.decode(
        kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text).strip()
