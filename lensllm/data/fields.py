"""Formats of records, recognised by the fields that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lensllm.data.conversations import (
    LossOn,
    NoConversationError,
    conversation_pairs,
    read_turns,
)
from lensllm.data.labels import NotATextError, as_text
from lensllm.data.pairs import Pair

# Fields that hold an input and those that hold its target, as data sets name them.
PAIR_FIELDS = (
    ("input", "target"), ("prompt", "completion"), ("prompt", "response"), ("input", "output"),
    ("inputs", "targets"), ("question", "answer"), ("question", "response"), ("query", "response"),
    ("source", "target"), ("document", "summary"), ("article", "highlights"),
    ("article", "summary"), ("dialogue", "summary"), ("text", "summary"), ("text", "target"),
    ("text", "label"), ("sentence", "label"), ("content", "label"), ("text", "label_text"),
)  # fmt: skip
CONVERSATION_FIELDS = ("messages", "conversations", "conversation")


class MisfitError(ValueError):
    """A record does not have the format; the message has the reason."""


@dataclass(frozen=True)
class Format:
    """How records become pairs.

    Attributes:
        name: What it is called in messages, with its fields.
        needs: Fields by which it is recognised.
        pairs: Converts the fields of a record to its pairs; raises a `MisfitError`.
    """

    name: str
    needs: tuple[str, ...]
    pairs: Callable[[Mapping[str, Any]], list[Pair]]

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record has the fields."""
        return all(name in fields for name in self.needs)


def known_formats(loss_on: LossOn = "last", join: str | None = None) -> list[Format]:
    """All formats that are recognised; the first that fits is used.

    Args:
        loss_on: See `conversation_pairs`.
        join: Separator between the members of a list; without it lists are not accepted as texts.
    """
    formats = [
        Format(
            f"conversations ({name})", (name,), partial(_conversation, name=name, loss_on=loss_on)
        )
        for name in CONVERSATION_FIELDS
    ]
    formats += [
        Format(
            f"instructions (instruction, input -> {answer})",
            ("instruction", answer),
            partial(_instruction, answer=answer, join=join),
        )
        for answer in ("output", "response")
    ]
    return formats + [pair_format(one, other, loss_on, join) for one, other in PAIR_FIELDS]


def pair_format(
    given: str, target: str, loss_on: LossOn = "last", join: str | None = None
) -> Format:
    """The format of records with one field for the input and one for the target.

    Args:
        given: Name of the input's field.
        target: Name of the target's field.
        loss_on: For fields that hold conversations, see `conversation_pairs`.
        join: What stands between the members of a list; `None` refuses lists.
    """
    return Format(
        f"pairs ({given} -> {target})",
        (given, target),
        partial(_pair, given=given, target=target, loss_on=loss_on, join=join),
    )


def recognise(rows: Sequence[Mapping[str, Any]], formats: Sequence[Format], source: str) -> Format:
    """The format that most rows have.

    Args:
        rows: The first rows.
        formats: Those to choose among.
        source: Where the rows come from, for messages.

    Raises:
        ValueError: At most half of the rows fit any; the message names the fields that there are.
    """
    for known in formats:
        if 2 * sum(map(known.fits, rows)) > len(rows):
            return known
    fields = list(dict.fromkeys(str(name) for row in rows for name in row))
    shown = ", ".join(fields[:20]) or "none"
    first, last = _suggested(rows, fields)
    raise ValueError(
        "Expected fields that tell the format (messages or conversations; instruction and output; "
        "prompt and completion; input and target; text and label; ...) in "
        f"{source}, found {shown}: say which ones to take, such as "
        f"'dataset.input={{{first}}}' 'dataset.target={{{last}}}'"
    )


def _suggested(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> tuple[str, str]:
    """Fields for the input and the target: the longest texts, and of the others the fewest values.

    Values that stay the same say nothing, and those that are all distinct are rather numbers.
    """
    if len(fields) < 2:
        return (*fields, "question")[0], "answer"
    values = {name: [str(row.get(name) or "") for row in rows] for name in fields}
    first = max(fields, key=lambda name: sum(map(len, values[name])))
    distinct = {name: len(set(values[name])) for name in fields if name != first}
    varied = {name: n for name, n in distinct.items() if n > 1} or distinct
    return first, min(varied, key=lambda name: varied[name])


def _text(fields: Mapping[str, Any], name: str, join: str | None) -> str:
    value = fields.get(name)
    if name not in fields or value is None:
        what = "no value" if name in fields else f"none; its fields are {', '.join(fields)}"
        raise MisfitError(f"expected a text in field {name!r}, got {what}")
    try:
        text = as_text(value, join)
    except NotATextError as error:
        raise MisfitError(f"expected a text in field {name!r}, got {error}") from error
    if not text.strip():
        raise MisfitError(f"expected a text in field {name!r}, got {text!r}")
    return text


def _instruction(fields: Mapping[str, Any], answer: str, join: str | None) -> list[Pair]:
    """The instruction, followed by its input where there is one."""
    text = _text(fields, "instruction", join)
    about = next((fields[name] for name in ("input", "context") if fields.get(name)), "")
    if as_text(about, join).strip():
        text = f"{text}\n\n{as_text(about, join)}"
    return [(text, _text(fields, answer, join))]


def _pair(
    fields: Mapping[str, Any], given: str, target: str, loss_on: LossOn, join: str | None
) -> list[Pair]:
    """One pair; or those of a conversation that is split into a prompt and its completion."""
    parts = [fields.get(name) for name in (given, target)]
    if any(isinstance(part, list) and part and isinstance(part[0], Mapping) for part in parts):
        kinds = ("user", "assistant")
        turns = [
            turn
            for part, role in zip(parts, kinds, strict=True)
            for turn in (part if isinstance(part, list) else [{"role": role, "content": part}])
        ]
        return _turns_pairs(turns, f"{given} and {target}", loss_on)
    return [(_text(fields, given, join), _text(fields, target, join))]


def _conversation(fields: Mapping[str, Any], name: str, loss_on: LossOn) -> list[Pair]:
    if name not in fields:
        raise MisfitError(f"expected the field {name!r}, its fields are {', '.join(fields)}")
    value = fields[name]
    system = fields.get("system")
    if isinstance(value, list) and isinstance(system, str) and system.strip():
        value = [{"role": "system", "content": system}, *value]
    return _turns_pairs(value, name, loss_on)


def _turns_pairs(value: Any, name: str, loss_on: LossOn) -> list[Pair]:
    try:
        found = list(conversation_pairs(read_turns(value), loss_on))
    except NoConversationError as error:
        raise MisfitError(
            f"expected turns with a role and a text in field {name!r}, got {str(error)[:80]}"
        ) from error
    if not found:
        raise MisfitError(f"expected an answer in field {name!r}, got a conversation without one")
    return found
