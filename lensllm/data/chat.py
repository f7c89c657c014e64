"""Conversations, one per object: dataset=chat, whose rows all have to be conversations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lensllm.data.containers import read_records
from lensllm.data.conversations import (
    LossOn,
    NoConversationError,
    check_loss_on,
    conversation_pairs,
    read_turns,
)
from lensllm.data.files import name_of, readable
from lensllm.data.leaks import Pair
from lensllm.data.pairs import TextData
from lensllm.data.splitting import split_pairs

logger = logging.getLogger(__name__)


def load_chat(
    path: str | Path,
    messages_field: str = "messages",
    *,
    name: str | None = None,
    loss_on: LossOn = "last",
    encoding: str = "utf-8",
    **options: Any,
) -> TextData:
    """Load conversations; an answer is the target, everything before it the input.

    A single user turn before the first answer stays as it is; longer conversations have
    `role: ` before every turn. A model's own chat template goes around the input with
    `training.prompt=chat`.

    Args:
        path: A file, folder or pattern, see `read_records`.
        messages_field: Field that holds the turns, see `read_turns`.
        name: Name of the data set; that of the file by default.
        loss_on: Which answers are targets, see `conversation_pairs`. All pairs of a conversation
            are in one split.
        encoding: Text encoding of the files.
        **options: The rest of `split_pairs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line holds no conversation, or there are too few that end with an answer.
    """
    check_loss_on(loss_on)
    pairs: list[Pair] = []
    groups: list[str] = []
    unanswered = 0
    for record in readable(read_records(path, encoding)):
        where = f"field {messages_field!r} (dataset.messages_field) of {record.place}"
        if messages_field not in record.fields:
            known = ", ".join(map(str, record.fields))
            raise ValueError(f"Expected a list of turns in {where}, which has: {known}")
        try:
            turns = read_turns(record.fields[messages_field])
        except NoConversationError as error:
            raise ValueError(
                f"Expected a list of turns with texts as `role` and `content` in {where}, got "
                f"{str(error)[:80]}"
            ) from error
        found = list(conversation_pairs(turns, loss_on))
        unanswered += not found
        pairs += found
        groups += [found[0][0]] * len(found) if found else []
    if unanswered:
        logger.warning("Dropped %d conversations of %s without an answer", unanswered, path)
    return split_pairs(
        name or name_of(path),
        pairs,
        source=str(path),
        groups=groups if loss_on == "assistant" else None,
        **options,
    )
