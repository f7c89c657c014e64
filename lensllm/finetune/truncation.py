"""Truncation of inputs that are too long, and a report of what was cut in a data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

logger = logging.getLogger(__name__)

TruncationSide = Literal["right", "left", "drop"]
SIDES = ("right", "left", "drop")
WARNED_SHARE = 0.05
LONGEST_TOKEN = 200  # characters


def check_side(side: str) -> None:
    """Raise a ValueError unless it is one of `SIDES`."""
    if side not in SIDES:
        raise ValueError(
            f"Expected training.truncation_side to be one of {', '.join(SIDES)}, got {side!r}"
        )


def cut_input(token_ids: Sequence[int], n_tokens: int, side: str) -> Sequence[int]:
    """At most `n_tokens` tokens of an input.

    Args:
        token_ids: Its tokens.
        n_tokens: Most tokens to keep, at least 1.
        side: `right` keeps the beginning, `left` the end.

    Example:
        >>> cut_input([1, 2, 3], 2, "right"), cut_input([1, 2, 3], 2, "left")
        ([1, 2], [2, 3])
    """
    return token_ids[-n_tokens:] if side == "left" else token_ids[:n_tokens]


def shortened(text: str, n_tokens: int, side: str) -> str:
    """The part of a very long text that the tokens within a limit can come from.

    A text of megabytes takes seconds to tokenise, although a limit keeps almost nothing of it. No
    tokenizer's tokens have `LONGEST_TOKEN` characters on average, so that what is left has more
    tokens than the limit, as the whole has.

    Args:
        text: The text.
        n_tokens: The limit.
        side: Which side is cut, see `cut_input`.

    Example:
        >>> len(shortened("a" * 10**6, 10, "right"))
        2000
    """
    most = LONGEST_TOKEN * n_tokens
    if len(text) <= most:
        return text
    return text[-most:] if side == "left" else text[:most]


def say_shares(counts: Any, side: str, model: str, dataset: str) -> None:
    """Report the share of a data set's inputs and targets that were too long for a candidate.

    Args:
        counts: `EncodingCounts` of the candidate's encoder.
        side: See `cut_input`; with `drop` pairs were left out.
        model: Name of the candidate.
        dataset: Name of the data set.
    """
    inputs, targets = (n / max(1, counts.pairs) for n in (counts.cut_inputs, counts.cut_targets))
    if not (inputs or targets):
        return
    done = {"right": "cut at their end", "left": "cut at their beginning (targets at their end)"}
    level = logging.WARNING if max(inputs, targets) > WARNED_SHARE else logging.INFO
    logger.log(
        level,
        "%s: of %d pairs of %s, %.1f %% of the inputs and %.1f %% of the targets are too long and "
        "%s: raise dataset.max_input_tokens or dataset.max_target_tokens, or choose "
        "training.truncation_side=left, which keeps the end of an input, or drop",
        model,
        counts.pairs,
        dataset,
        100 * inputs,
        100 * targets,
        done.get(side, "left out"),
    )
