"""Text pairs, split and fingerprinted: what every data set loader returns."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lensllm.data.leaks import NO_OVERLAP, Overlap, Pair, overlaps

MAX_SHOWN = 500  # characters of a text that is shown as an example

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextData:
    """(input, target) text pairs of one task, in three disjoint splits.

    Attributes:
        name: Name of the data set in trials and curves.
        train: Training pairs; a trial takes a seeded, nested subset of them.
        validation: Pairs that early stopping uses.
        test: Pairs that the test loss is measured on.
        fingerprint: 16 hexadecimal digits of a SHA-256 over all pairs and limits.
        max_input_tokens: Longer inputs are cut at their end.
        max_target_tokens: Longer targets are cut at their end.
        leaked: Training pairs that are in the test set.
        leaked_validation: Training pairs that are in the validation set.
    """

    name: str
    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]
    fingerprint: str
    max_input_tokens: int = 512
    max_target_tokens: int = 128
    leaked: Overlap = NO_OVERLAP
    leaked_validation: Overlap = NO_OVERLAP

    def examples(self, n: int) -> list[list[str]]:
        """The first `n` training pairs, long texts cut at their end."""
        return [
            [text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…" for text in pair]
            for pair in self.train[:n]
        ]

    def summary(self) -> dict[str, Any]:
        """Fingerprint, sizes of the splits, and their overlap with the training split."""
        splits = ("train", "validation", "test")
        sizes = {f"n_{split}": len(getattr(self, split)) for split in splits}
        leaks = {name: asdict(getattr(self, name)) for name in ("leaked", "leaked_validation")}
        return {"fingerprint": self.fingerprint, **sizes, **leaks}


def make_text_data(
    name: str,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    test: Sequence[Pair],
    max_input_tokens: int = 512,
    max_target_tokens: int = 128,
) -> TextData:
    """Check the splits, compute their fingerprint, and report training pairs of the test set.

    Raises:
        ValueError: A split is empty, a target is empty, or a limit is not positive.
    """
    for split, pairs in (("train", train), ("validation", validation), ("test", test)):
        if not pairs:
            raise ValueError(f"Expected at least one {split} pair in data set {name!r}, got none")
        for row, (_, target) in enumerate(pairs, start=1):
            if not target.strip():
                raise ValueError(
                    f"Expected a target text in {split} pair {row} of data set {name!r}, "
                    f"got {target!r}"
                )
    for limit, value in (
        ("max_input_tokens", max_input_tokens),
        ("max_target_tokens", max_target_tokens),
    ):
        if value <= 0:
            raise ValueError(f"Expected `{limit}` > 0 for data set {name!r}, got {value}")
    digest = hashlib.sha256(f"{max_input_tokens},{max_target_tokens}".encode())
    for pairs in (train, validation, test):
        digest.update(b"\x00split\x00")
        for source, target in pairs:
            digest.update(f"{source}\x1f{target}\x1e".encode())
    leaked, leaked_validation = (
        _reported(name, found, len(train), split)
        for found, split in zip(
            overlaps(train, (test, validation)), ("test", "validation"), strict=True
        )
    )
    return TextData(
        name,
        train,
        validation,
        test,
        digest.hexdigest()[:16],
        max_input_tokens,
        max_target_tokens,
        leaked,
        leaked_validation,
    )


def _reported(name: str, leaked: Overlap, n_train: int, split: str) -> Overlap:
    """The overlap of the training split with another one, reported where there is any."""
    if leaked.inputs or leaked.normalised:
        logger.warning(
            "Contamination of %s: %d of %d training pairs are in the %s set, %d have an input of "
            "it, %d one in another spelling",
            name,
            leaked.pairs,
            n_train,
            split,
            leaked.inputs,
            leaked.normalised,
        )
    if leaked.near:
        logger.warning(
            "%s: %d of %d training pairs have a near-duplicate of an input of the %s set",
            name,
            leaked.near,
            n_train,
            split,
        )
    return leaked


def with_label_noise(data: TextData, share: float, seed: int = 0) -> TextData:
    """A task with some wrong labels in all three splits, as if labelled by a single annotator.

    A label that is replaced becomes that of a training pair drawn at random, so that labels stay as
    frequent as they were, and some of the replaced ones come out right.

    Args:
        data: The task.
        share: Share of the targets that are replaced, above 0 and at most 1.
        seed: Seed of what is replaced and by what.

    Returns:
        The task under the name `<name>_noisy`.

    Raises:
        ValueError: The share is out of range.

    Example:
        >>> data = make_text_data("t", [("a", "1"), ("b", "2")], [("c", "1")], [("d", "2")])
        >>> with_label_noise(data, 0.5).train
        [('a', '1'), ('b', '1')]
    """
    if not 0 < share <= 1:
        raise ValueError(f"Expected `share` of wrong labels above 0 and at most 1, got {share}")
    rng = np.random.default_rng(seed)
    labels = [target for _, target in data.train]

    def noisy(pairs: Sequence[Pair]) -> list[Pair]:
        replaced = rng.random(len(pairs)) < share
        drawn = rng.integers(len(labels), size=len(pairs))
        return [
            (source, labels[i] if wrong else target)
            for (source, target), i, wrong in zip(pairs, drawn, replaced, strict=True)
        ]

    return make_text_data(
        f"{data.name}_noisy",
        noisy(data.train),
        noisy(data.validation),
        noisy(data.test),
        data.max_input_tokens,
        data.max_target_tokens,
    )
