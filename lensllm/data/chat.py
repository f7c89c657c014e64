"""Conversations: the last answer is the target, everything before it the input."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lensllm.data.files import read_jsonl, split_pairs
from lensllm.data.pairs import Pair, TextData

logger = logging.getLogger(__name__)


def load_chat(path: str | Path, messages_field: str = "messages", **options: Any) -> TextData:
    """Load conversations from a JSON Lines file.

    A line has a list of `{"role": ..., "content": ...}`. What a user says alone before the first
    answer stays as it is; longer conversations have `role: ` before every turn. A model's own chat
    template goes around the input with `training.prompt=chat`.

    Args:
        path: The file.
        messages_field: Field that holds the list.
        **options: `name`, and the rest of `split_pairs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line holds no conversation, or there are too few that end with an answer.
    """
    path = Path(path)
    pairs = list(_pairs(read_jsonl(path), messages_field, path))
    name = options.pop("name", None) or path.stem
    return split_pairs(name, pairs, source=str(path), **options)


def _pairs(
    records: Iterator[tuple[int, Mapping[str, Any]]], field: str, path: Path
) -> Iterator[Pair]:
    unanswered = 0
    for row, record in records:
        turns: Any = record.get(field)
        if misfit := _misfit(turns):
            raise ValueError(
                f"Expected a list of turns with texts as `role` and `content` in field {field!r} "
                f"(dataset.messages_field) of line {row} of {path}, got {misfit[:80]}"
            )
        while turns and turns[-1]["role"] != "assistant":
            turns = turns[:-1]
        if len(turns) < 2 or not turns[-1]["content"].strip():
            unanswered += 1
            continue
        *before, answer = turns
        yield render(before), answer["content"]
    if unanswered:
        logger.warning("Dropped %d conversations of %s without an answer", unanswered, path)


def _misfit(turns: Any) -> str:
    """What is no conversation, or its first turn that is none, as a text; else empty."""
    if not isinstance(turns, list):
        return repr(turns)
    fits = (
        isinstance(turn, dict)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str)
        for turn in turns
    )
    return next((repr(turn) for turn, good in zip(turns, fits, strict=True) if not good), "")


def render(turns: Sequence[Mapping[str, str]]) -> str:
    r"""The turns before an answer, as one text.

    Example:
        >>> render([{"role": "user", "content": "Hi"}])
        'Hi'
        >>> render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
        'system: Be brief.\nuser: Hi'
    """
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
