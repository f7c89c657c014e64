"""Cutting a target to a number of tokens, and the bytes of the text that is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Byte-level BPE (GPT-2) writes printable bytes as themselves, the others as U+0100, U+0101, ...;
# ByT5 writes all bytes as themselves.
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_BYTE_LEVEL = {chr(byte): byte for byte in range(256)}
_BYTE_LEVEL |= {chr(256 + i): byte for i, byte in enumerate(sorted({*range(256)} - _PRINTABLE))}


def cut_target(
    tokenizer: Any,
    text: str,
    token_ids: Sequence[int],
    n_tokens: int,
    offsets: Sequence[tuple[int, int]] | None = None,
) -> tuple[list[int], int]:
    """The first tokens of a text, and how many UTF-8 bytes of it they stand for.

    Where the pieces of the tokens spell the text (byte-level BPE, SentencePiece with byte
    fallback), their bytes are counted, also those of a character that the cut goes through. Where
    the tokenizer changes the text (lower case, Unicode normalisation, white space), the offsets of
    its tokens say which characters of the original are covered, and the cut moves back to the end
    of the last whole character. For a tokenizer without offsets, the longest prefix of the text
    that has few enough tokens is encoded.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        token_ids: Its tokens, more than `n_tokens` of them.
        n_tokens: Most tokens to keep.
        offsets: Characters of the text that each token stands for, where they are known.

    Returns:
        The tokens that are kept, and their bytes.
    """
    kept = list(token_ids[:n_tokens])
    n_bytes = _spelled_bytes(tokenizer, text, kept)
    if n_bytes is not None:
        return kept, n_bytes
    if not tokenizer.is_fast:
        return _longest_beginning(tokenizer, text, n_tokens)
    if offsets is None:
        options = {"add_special_tokens": False, "verbose": False, "return_offsets_mapping": True}
        offsets = tokenizer(text, **options)["offset_mapping"]
    ends = np.maximum.accumulate([end for _, end in offsets])
    while n_tokens and ends[n_tokens - 1] > offsets[n_tokens][0]:
        n_tokens -= 1
    if not n_tokens:
        return [], 0
    # characters without a token of their own (accents) belong to the one before, spaces to the next
    before_next = len(text[: offsets[n_tokens][0]].rstrip())
    end = max(int(ends[n_tokens - 1]), before_next)
    return kept[:n_tokens], len(text[:end].encode())


def _spelled_bytes(tokenizer: Any, text: str, token_ids: Sequence[int]) -> int | None:
    """Bytes that the tokens' pieces spell, `None` where they do not spell the text's beginning."""
    pieces = tokenizer.convert_ids_to_tokens(list(token_ids))
    whole = text.encode()
    for spelling in (_spell_byte_level(pieces), _spell_sentence_piece(pieces)):
        if whole.startswith(spelling):
            return len(spelling)
        # some tokenizers put a space before every text
        if spelling.startswith(b" ") and whole.startswith(spelling[1:]):
            return len(spelling) - 1
    return None


def _spell_byte_level(pieces: Sequence[str]) -> bytes:
    """Bytes of byte-level BPE's pieces; an added token stands for its own characters."""
    return b"".join(
        bytes(_BYTE_LEVEL[character] for character in piece)
        if all(character in _BYTE_LEVEL for character in piece)
        else piece.encode()
        for piece in pieces
    )


def _spell_sentence_piece(pieces: Sequence[str]) -> bytes:
    """Bytes of SentencePiece's pieces, those of byte fallback included."""
    found = ((piece, _BYTE.fullmatch(piece)) for piece in pieces)
    return b"".join(
        bytes.fromhex(byte[1]) if byte else piece.replace("\u2581", " ").encode()
        for piece, byte in found
    )


def _longest_beginning(tokenizer: Any, text: str, n_tokens: int) -> tuple[list[int], int]:
    """Tokens and bytes of the longest beginning of a text that has at most `n_tokens` tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_ids(tokenizer, text[:middle])) <= n_tokens:
            low = middle
        else:
            high = middle - 1
    return _ids(tokenizer, text[:low]), len(text[:low].encode())


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
