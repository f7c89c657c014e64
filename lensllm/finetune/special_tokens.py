"""Special tokens that a tokenizer sets: around inputs, around targets, after turns of a chat."""

from __future__ import annotations

from typing import Any


def added_tokens(tokenizer: Any, side: str) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a text by itself.

    Args:
        tokenizer: A tokenizer of `transformers`.
        side: `text` for what a model reads, `text_target` for what it is to write.
    """
    bare = list(tokenizer("x", add_special_tokens=False, verbose=False)["input_ids"])
    full = list(tokenizer(**{side: "x"}, verbose=False)["input_ids"])
    places = range(len(full))
    start = next((i for i in places if full[i : i + len(bare)] == bare), len(full))
    return full[:start], full[start + len(bare) :]


def target_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens before and after a target of an encoder-decoder.

    mBART, NLLB and their like begin or end a target with a token that names its language.

    Raises:
        ValueError: The tokenizer requires the language of targets, and it was not given.
    """
    if hasattr(tokenizer, "tgt_lang") and tokenizer.tgt_lang is None:
        raise ValueError(
            f"Expected the language of targets with {tokenizer.name_or_path}, whose targets carry "
            "a token that names it, got none: set `src_lang` and `tgt_lang` in its "
            "tokenizer_config.json to codes that it knows"
        )
    opening, ending = added_tokens(tokenizer, "text_target")
    end = tokenizer.eos_token_id
    if end is not None and end not in ending:
        ending = [*ending, int(end)]
    return opening, ending


def turn_ending(tokenizer: Any, text: str) -> list[int]:
    """Tokens that end an answer in a chat template.

    Args:
        tokenizer: A tokenizer of `transformers`.
        text: What the template writes after an answer.

    Returns:
        The tokens up to the first added one (such as `<|im_end|>`); without one the text's tokens
        and the end token; nothing where there is no text.
    """
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    ends = [(text.index(token), len(token)) for token in added if token and token in text]
    if ends:
        start, length = min(ends, key=lambda found: (found[0], -found[1]))
        text = text[: start + length]
    text = text if ends else text.rstrip()
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    end = tokenizer.eos_token_id
    return [*ids, int(end)] if text and not ends and end is not None else ids
