"""Joint tokenisation of prompt and target, in which the data's text has no special tokens.

A tokenizer reads a text differently at its beginning than further on (SentencePiece puts a space
before it), and takes `</s>` for the end token wherever it stands. So prompt and target are
tokenised together, the ids are cut where the target begins, and special tokens are those of the
prompt alone.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

from lensllm.data.conversations import Conversation

# Occurs in no text: added to a special token, it gives a piece that no text matches.
_UNMATCHED = "\ufdd0"
_ANCHOR = "\n"

Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Segments:
    """Token ids of one pair, by the part of the text that they stand for.

    A token that reaches from one part into the next belongs to the next.

    Attributes:
        before: Ids of the prompt before the input.
        given: Ids of the input.
        after: Ids of the prompt after the input.
        target: Ids of the target.
        offsets: Characters of the target's text that each of its tokens stands for, below 0 where
            it begins in the prompt; `None` where the tokenizer cannot tell.
        lost_bytes: UTF-8 bytes of the target for which the vocabulary has no token.
    """

    before: list[int]
    given: list[int]
    after: list[int]
    target: list[int]
    offsets: Offsets | None
    lost_bytes: int


class SegmentTokenizer:
    """Tokenises pairs of texts with a prompt around the input.

    Args:
        tokenizer: A tokenizer of `transformers`.
        before: The prompt before the input, whose special tokens are encoded as such.
        after: The prompt after the input, likewise.
        is_joint: Whether the target continues the prompt; if not, it is tokenised separately.
        between: The prompt between the turns of a conversation, likewise; inputs are then
            `Conversation` objects with one turn more.

    Raises:
        ValueError: `between` is given and the tokenizer is a slow one.
    """

    def __init__(
        self,
        tokenizer: Any,
        before: str,
        after: str,
        *,
        is_joint: bool,
        between: Sequence[str] = (),
    ) -> None:
        if between and not tokenizer.is_fast:
            raise ValueError(
                f"Expected a fast tokenizer for conversations of several turns with "
                f"training.prompt=chat, got {type(tokenizer).__name__} of "
                f"{tokenizer.name_or_path}: give the prompt as a text with {{input}}"
            )
        self.between = tuple(between)
        self.tokenizer = tokenizer
        self.before = before
        self.after = after
        self.is_joint = is_joint
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self.special = added | set(map(str, tokenizer.all_special_tokens))
        self.unknown_id = tokenizer.unk_token_id
        self._special_ids = set(tokenizer.all_special_ids) - {self.unknown_id}
        self._known = ""

    def ids(self, text: str) -> list[int]:
        """Ids of a text of the prompt."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Segments]:
        """Tokenise pairs of input and target."""
        if not self.tokenizer.is_fast:
            return [self._without_offsets(given, target) for given, target in pairs]
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = False
        backend.no_truncation()
        backend.no_padding()
        texts = [text for pair in pairs for text in self._texts(*pair)]
        found = backend.encode_batch(texts, add_special_tokens=False)
        tokens = [(encoding.ids, encoding.offsets) for encoding in found]
        width = len(texts) // len(pairs) if pairs else 1
        return [self._cut(pair, tokens[i * width :][:width]) for i, pair in enumerate(pairs)]

    def _parts(self, given: str) -> list[tuple[str, bool]]:
        """The parts of an input, each with whether it is the prompt's."""
        if not self.between:
            return [(given, False)]
        assert isinstance(given, Conversation)
        said = [turn["content"] for turn in given.turns]
        rest = zip(self.between, said[1:], strict=True)
        return [
            (said[0], False),
            *(part for piece, text in rest for part in ((piece, True), (text, False))),
        ]

    def _texts(self, given: str, target: str) -> list[str]:
        middle = "".join(text for text, _ in self._parts(given))
        prompt = f"{self.before}{middle}{self.after}"
        return [prompt + target] if self.is_joint else [prompt, target]

    def _cut(
        self, pair: tuple[str, str], tokens: list[tuple[list[int], Offsets]], *, again: bool = False
    ) -> Segments:
        """Cut the tokens into segments; tokenise again where the data's text has special tokens."""
        given, target = self._parts(pair[0]), pair[1]
        first, length = len(self.before), sum(len(text) for text, _ in given)
        places = [first, first + length, first + length + len(self.after)]
        (ids, offsets), rest = tokens[0], tokens[1:]
        ends = [end for _, end in offsets]
        cuts = [0, *(bisect_right(ends, place) if place else 0 for place in places)]
        before, source, after = (ids[a:b] for a, b in pairwise(cuts))
        if self.is_joint:
            of_target, where = ids[cuts[3] :], offsets[cuts[3] :]
            where = [(start - places[2], end - places[2]) for start, end in where]
        else:
            after = ids[cuts[2] :]
            of_target, where = rest[0]
        said = [text for text, is_prompt in given if not is_prompt]
        # Of a conversation the input's tokens have the template's special ones.
        checked = [of_target] if self.between else [source, of_target]
        if not again and self._has_special([*said, target], checked):
            parts = [(self.before, True), *given, (self.after, True)]
            own = [(target, False)]
            texts = [[*parts, *own]] if self.is_joint else [parts, own]
            return self._cut(pair, [self._plainly(text) for text in texts], again=True)
        lost = self._lost(target, of_target, where)
        return Segments(before, source, after, of_target, where, lost)

    def _has_special(self, texts: Sequence[str], ids: Sequence[list[int]]) -> bool:
        """Whether a user's text has special tokens, or what the tokenizer normalises to one."""
        if self._pattern is not None and any(map(self._pattern.search, texts)):
            return True
        return not all(map(self._special_ids.isdisjoint, ids))

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        longest = sorted(filter(None, self.special), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest))})") if longest else None

    def _plainly(self, parts: Sequence[tuple[str, bool]]) -> tuple[list[int], Offsets]:
        """Tokens of a text in which only the parts of the prompt have special tokens."""
        chunks: list[tuple[str, bool]] = []
        for text, is_prompt in parts:
            pieces = self._pattern.split(text) if self._pattern and is_prompt else [text]
            for i, piece in enumerate(pieces):
                if i % 2:
                    chunks.append((piece, True))
                elif chunks and not chunks[-1][1]:
                    chunks[-1] = (chunks[-1][0] + piece, False)
                elif piece:
                    chunks.append((piece, False))
        ids: list[int] = []
        offsets: Offsets = []
        start = 0
        for i, (text, is_special) in enumerate(chunks):
            if is_special:
                found, where = [self.tokenizer.convert_tokens_to_ids(text)], [(0, len(text))]
            else:
                found, where = self._plain_tokens(text, is_first=i == 0)
            ids += found
            offsets += [(start + a, start + b) for a, b in where]
            start += len(text)
        return ids, offsets

    def _plain_tokens(self, text: str, *, is_first: bool) -> tuple[list[int], Offsets]:
        """Tokens of a text without any special ones, at the beginning or after a special one."""
        if not is_first and not self._begins_anew:
            anchor = self._plain.encode(_ANCHOR, add_special_tokens=False).ids
            found = self._plain.encode(_ANCHOR + text, add_special_tokens=False)
            if found.ids[: len(anchor)] == anchor:
                offsets = [(a - 1, b - 1) for a, b in found.offsets[len(anchor) :]]
                return found.ids[len(anchor) :], offsets
        found = self._plain.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    @cached_property
    def _begins_anew(self) -> bool:
        """Whether the tokenizer reads a text after a special token as it does at the beginning."""
        token = next(iter(self.special))
        return self.ids(f"{token}x")[1:] == self.ids("x")

    @cached_property
    def _plain(self) -> Tokenizer:
        """The tokenizer without special tokens: no text becomes one."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        state["post_processor"] = None
        model = state["model"]

        def renamed(piece: str) -> str:
            return _UNMATCHED + piece if piece in self.special else piece

        for token in state["added_tokens"]:  # if removed, their ids would go to other tokens
            token["content"] = renamed(token["content"])
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {renamed(piece): i for piece, i in model["vocab"].items()}
        else:
            model["vocab"] = [[renamed(piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token"):
            model["unk_token"] = renamed(model["unk_token"])
        return Tokenizer.from_str(json.dumps(state))

    def _lost(self, text: str, ids: Sequence[int], offsets: Offsets | None) -> int:
        """Bytes of a text that became the unknown token, or nothing at all."""
        strange = [c for c in sorted(set(text).difference(self._known)) if not self._knows(c)]
        if not strange and self.unknown_id not in ids:
            return 0
        if offsets is None:
            return sum(len(c.encode()) for c in text if c in strange)
        is_covered = bytearray(len(text))
        for token_id, (start, end) in zip(ids, offsets, strict=True):
            if token_id != self.unknown_id:
                start = max(0, start)
                is_covered[start:end] = b"\1" * (end - start)
        return sum(
            len(character.encode())
            for character, covered in zip(text, is_covered, strict=True)
            if not covered and not _is_mark(character)
        )

    def _knows(self, character: str) -> bool:
        """Whether a character has a token of its own; those that have are remembered."""
        ids = self.ids(character)
        knows = _is_mark(character) or (bool(ids) and self.unknown_id not in ids)
        self._known += character if knows else ""
        return knows

    def _without_offsets(self, given: str, target: str) -> Segments:
        """Segments of a tokenizer that cannot tell which characters its tokens stand for."""
        source = self._following(self.before, given)
        of_target = self._following(self.after if self.is_joint else "", target)
        lost = self._lost(target, of_target, None)
        return Segments(
            self.ids(self.before), source, self._following("x", self.after), of_target, None, lost
        )

    def _following(self, context: str, text: str) -> list[int]:
        """Ids of a text that follows another one."""
        options = {
            "add_special_tokens": False,
            "verbose": False,
            "split_special_tokens": text != self.after,
        }
        start = list(self.tokenizer(context, **options)["input_ids"])
        both = list(self.tokenizer(context + text, **options)["input_ids"])
        is_prefix = both[: len(start)] == start
        return (
            both[len(start) :] if is_prefix else list(self.tokenizer(text, **options)["input_ids"])
        )


def _is_mark(character: str) -> bool:
    """White space, accents and control characters, which tokenizers may drop by design."""
    return character.isspace() or unicodedata.category(character)[0] in "MC"
