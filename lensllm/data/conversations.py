"""Converts conversations of several layouts to turns, and turns to pairs of texts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from lensllm.data.pairs import Pair

LossOn = Literal["last", "assistant"]
Turn = Mapping[str, str]
_ROLES = {
    "human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "model": "assistant", "function_call": "assistant", "developer": "system",
    "observation": "tool", "function": "tool", "function_response": "tool",
}  # fmt: skip


class Conversation(str):
    """The turns before an answer: a text that remembers what it was made of.

    Attributes:
        turns: The turns, for models with a chat template of their own (`training.prompt=chat`).
    """

    turns: tuple[Turn, ...]

    def __new__(cls, text: str, turns: Sequence[Turn]) -> Conversation:
        """Make one of its text and turns."""
        made = super().__new__(cls, text)
        made.turns = tuple(turns)
        return made

    def __reduce__(self) -> tuple[type[Conversation], tuple[str, tuple[Turn, ...]]]:
        """What a copy in another process is made of."""
        return Conversation, (str(self), self.turns)


class NoConversationError(ValueError):
    """A value that is not a conversation; the message shows it, or the first invalid turn."""


def check_loss_on(loss_on: str) -> None:
    """Raise a ValueError unless it is one of the two."""
    if loss_on not in ("last", "assistant"):
        raise ValueError(f"Expected dataset.loss_on to be last or assistant, got {loss_on!r}")


def read_turns(value: Any) -> list[Turn]:
    """The turns of a conversation, with `role` and `content` as texts.

    A turn has `role` and `content`, or `from` and `value` (ShareGPT). Content may be a text, or
    parts of which each is a text or has one; tool calls are written as JSON after it.

    Raises:
        NoConversationError: It is not a list of turns, or a turn is invalid: it has no text and no
            tool call, or has a part that is not text.

    Example:
        >>> read_turns([{"from": "human", "value": "Hi"}])
        [{'role': 'user', 'content': 'Hi'}]
    """
    if not isinstance(value, list):
        raise NoConversationError(repr(value))
    turns: list[Turn] = []
    for turn in value:
        role = _role(turn) if isinstance(turn, Mapping) else None
        content = None if role is None else _content(turn)
        if role is None or content is None:
            raise NoConversationError(repr(turn))
        turns.append({"role": role, "content": content})
    return turns


def _role(turn: Mapping[str, Any]) -> str | None:
    role = turn.get("role", turn.get("from"))
    return _ROLES.get(role.lower(), role) if isinstance(role, str) else None


def _content(turn: Mapping[str, Any]) -> str | None:
    content = turn.get("content", turn.get("value"))
    calls = turn.get("tool_calls") or ([turn["function_call"]] if turn.get("function_call") else [])
    if content is None and calls:
        content = ""
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(content, str):
        return None
    return "\n".join([*([content] if content else []), *map(_call, calls)])


def _joined(parts: Sequence[Any]) -> str | None:
    """The texts of content that comes in parts; `None` where a part is not text."""
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(texts) else None


def _call(call: Any) -> str:
    """A tool call as one line of JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping):
        return str(function)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # arguments that are not valid JSON stay a string
            arguments = json.loads(arguments)
    return json.dumps({"name": function.get("name"), "arguments": arguments}, ensure_ascii=False)


def conversation_pairs(turns: Sequence[Turn], loss_on: LossOn = "last") -> Iterator[Pair]:
    r"""The pairs of one conversation; none where there is no answer.

    Args:
        turns: See `read_turns`.
        loss_on: `last` makes a pair of the last answer and all before it, `assistant` one of every
            answer and what came before.

    Example:
        >>> chat = read_turns([
        ...     {"role": "user", "content": "A"}, {"role": "assistant", "content": "B"},
        ...     {"role": "user", "content": "C"}, {"role": "assistant", "content": "D"}])
        >>> list(conversation_pairs(chat))
        [('user: A\nassistant: B\nuser: C', 'D')]
        >>> list(conversation_pairs(chat, "assistant"))[0]
        ('A', 'B')
    """
    answers = [
        i
        for i, turn in enumerate(turns)
        if i > 0 and turn["role"] == "assistant" and turn["content"].strip()
    ]
    if loss_on == "last":
        last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
        answers = answers[-1:] if answers and answers[-1] == last else []
    for i in answers:
        yield render(turns[:i]), turns[i]["content"]


def render(turns: Sequence[Turn]) -> str:
    r"""The turns before an answer, as one text; what a user says alone is that text.

    Example:
        >>> render([{"role": "user", "content": "Hi"}])
        'Hi'
        >>> render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
        'system: Be brief.\nuser: Hi'
    """
    if len(turns) == 1 and turns[0]["role"] == "user":
        return turns[0]["content"]
    lines = [f"{turn['role']}: {turn['content']}" for turn in turns]
    return Conversation(turns[0]["content"] if len(turns) == 1 else "\n".join(lines), turns)
