"""Text pairs, split and fingerprinted: what every data set loader returns."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)
Pair = tuple[str, str]


@dataclass(frozen=True)
class Overlap:
    """Exact overlap of two splits.

    Attributes:
        pairs: Pairs of the first that are in the second as they are.
        inputs: Pairs of the first whose input is an input of the second.
    """

    pairs: int = 0
    inputs: int = 0


@dataclass(frozen=True)
class TextData:
    """(input, target) text pairs of one task, in three disjoint splits.

    Attributes:
        name: Name of the data set in trials and curves.
        train: Training pairs; a trial takes a seeded, nested subset of them.
        validation: Pairs that early stopping looks at.
        test: Pairs that the test loss is measured on.
        fingerprint: 16 hexadecimal digits of a SHA-256 over all pairs and limits.
        max_input_tokens: Longer inputs are cut at their end.
        max_target_tokens: Longer targets are cut at their end.
        leaked: Training pairs that are in the test set.
    """

    name: str
    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]
    fingerprint: str
    max_input_tokens: int = 512
    max_target_tokens: int = 128
    leaked: Overlap = Overlap()

    def summary(self) -> dict[str, Any]:
        """Fingerprint, sizes of the splits, and what of the test set is in the training split."""
        splits = ("train", "validation", "test")
        sizes = {f"n_{split}": len(getattr(self, split)) for split in splits}
        return {"fingerprint": self.fingerprint, **sizes, "leaked": asdict(self.leaked)}


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
    leaked = overlap(train, test)
    if leaked.inputs:
        logger.warning(
            "Contamination of %s: %d of %d training pairs are in the test set, %d have an input of "
            "it",
            name,
            leaked.pairs,
            len(train),
            leaked.inputs,
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
    )


def with_label_noise(data: TextData, share: float, seed: int = 0) -> TextData:
    """A task with some of its labels wrong, in all three splits, as one annotator would leave it.

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


def digests(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of the inputs, and of whole pairs; 0 where the target has no text.

    Returns:
        Two arrays of shape (n_pairs,).
    """
    inputs = np.empty(len(pairs), dtype=np.uint64)
    whole = np.empty(len(pairs), dtype=np.uint64)
    for i, (source, target) in enumerate(pairs):
        inputs[i] = _digest(source)
        whole[i] = _digest(f"{source}\x1f{target}") if target.strip() else 0
    return inputs, whole


def _digest(text: str) -> int:
    return max(1, int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def overlap(first: Sequence[Pair], second: Sequence[Pair]) -> Overlap:
    """Count the pairs and inputs of one split that are in another one.

    Example:
        >>> overlap([("a", "1"), ("b", "2"), ("c", "3")], [("a", "1"), ("b", "9")])
        Overlap(pairs=1, inputs=2)
    """
    (inputs, pairs), (other_inputs, other_pairs) = digests(first), digests(second)
    return Overlap(int(np.isin(pairs, other_pairs).sum()), int(np.isin(inputs, other_inputs).sum()))
