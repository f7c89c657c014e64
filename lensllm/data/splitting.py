"""Splitting pairs at random, so that no input is in two splits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lensllm.data.leaks import normalised
from lensllm.data.pairs import Pair, TextData, make_text_data

logger = logging.getLogger(__name__)
MIN_PAIRS = 10


def split_pairs(
    name: str,
    pairs: Iterable[Pair],
    *,
    source: str,
    groups: Sequence[str] | None = None,
    given: Mapping[str, Sequence[Pair]] | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    max_evaluation: int = 1000,
    seed: int = 0,
    max_input_tokens: int = 512,
    max_target_tokens: int = 128,
) -> TextData:
    """Drop repeated pairs and split the rest at random by groups, each of which stays in one split.

    Args:
        name: Name of the data set.
        pairs: All pairs, or those to train on where other splits are given.
        source: Where they come from, for messages.
        groups: A text for each pair, by which it is grouped; its input by default. Texts that
            differ in spelling only (see `normalised`) are one group.
        given: Pairs of the data set's own splits `validation` and `test`.
        validation_fraction: Share of the groups for validation, unless given.
        test_fraction: Share of the groups for the test, unless given.
        max_evaluation: Most groups in the validation and in the test split.
        seed: Seed of the split.
        max_input_tokens: See `TextData`.
        max_target_tokens: See `TextData`.

    Raises:
        ValueError: Shares leave nothing to train on, or there are fewer than ten groups.
    """
    _check_shares(validation_fraction, test_fraction, max_evaluation)
    members = _grouped(list(pairs), groups, source)
    if len(members) < MIN_PAIRS:
        raise ValueError(
            f"Expected at least {MIN_PAIRS} pairs with inputs of their own in {source}, "
            f"got {len(members)}"
        )
    order = np.random.default_rng(seed).permutation(len(members))
    shuffled = [members[i] for i in order]
    parts: dict[str, list[Pair]] = {}
    start = 0
    for split, share in (("test", test_fraction), ("validation", validation_fraction)):
        own = list(dict.fromkeys((given or {}).get(split, ())))
        if own:
            chosen = np.random.default_rng(seed).permutation(len(own))[:max_evaluation]
            parts[split] = [own[i] for i in np.sort(chosen)]
            continue
        end = start + min(max_evaluation, max(1, round(share * len(members))))
        parts[split] = [pair for group in shuffled[start:end] for pair in group]
        start = end
    train = [pair for group in shuffled[start:] for pair in group]
    return make_text_data(
        name, train, parts["validation"], parts["test"], max_input_tokens, max_target_tokens
    )


def _grouped(pairs: list[Pair], groups: Sequence[str] | None, source: str) -> list[list[Pair]]:
    """Distinct pairs by their groups, in the order in which these come first."""
    found: dict[str, dict[Pair, None]] = {}
    keys = [pair[0] for pair in pairs] if groups is None else groups
    for pair, key in zip(pairs, keys, strict=True):
        found.setdefault(normalised(key), {})[pair] = None
    members = [list(group) for group in found.values()]
    distinct = sum(map(len, members))
    if distinct < len(pairs):
        logger.warning("Dropped %d repeated pairs of %s", len(pairs) - distinct, source)
    return members


def _check_shares(validation_fraction: float, test_fraction: float, max_evaluation: int) -> None:
    if not (validation_fraction > 0 and test_fraction > 0):
        raise ValueError(
            f"Expected `validation_fraction` and `test_fraction` > 0, got {validation_fraction} "
            f"and {test_fraction}"
        )
    if max_evaluation <= 0:
        raise ValueError(f"Expected `max_evaluation` > 0, got {max_evaluation}")
    if validation_fraction + test_fraction >= 1:
        raise ValueError(
            "Expected `validation_fraction` + `test_fraction` < 1, "
            f"got {validation_fraction} + {test_fraction}"
        )
