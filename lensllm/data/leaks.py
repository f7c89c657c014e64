"""Overlap between splits: exact, in another spelling, or near-duplicate."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[str, str]

SHINGLE = 5  # characters
SIMILAR = 0.8  # Jaccard similarity of two texts' shingles from which they are near-duplicates
# A pair with a similarity of 0.8 shares one of 12 bands of 4 hashes in 998 of 1000 cases.
N_BANDS, N_ROWS = 12, 4
N_HASHES = N_BANDS * N_ROWS
MAX_SHARED = 32  # texts sharing a band that are looked at
N_VERIFIED = 3  # of these, most equal hashes first, are compared run by run
MAX_CHARACTERS = 1000  # of a text that are compared
MAX_COMPARED = 4_000_000  # characters of a split that are compared: about two seconds


@dataclass(frozen=True)
class Overlap:
    """The overlap of one split with another one.

    Attributes:
        pairs: Pairs of the first that are in the second as they are.
        inputs: Pairs of the first whose input is an input of the second.
        normalised: Further pairs of the first whose input is one of the second in another spelling
            (see `normalised`).
        near: Further pairs of the first, of those that were compared, whose input is a
            near-duplicate of one of the second (see `near_duplicates`).
    """

    pairs: int = 0
    inputs: int = 0
    normalised: int = 0
    near: int = 0


NO_OVERLAP = Overlap()


def normalised(text: str) -> str:
    r"""A text without what makes two spellings of one: Unicode's forms, letter case, white space.

    Example:
        >>> normalised("Cafe\u0301  X") == normalised("CAF\u00c9 x")
        True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def digests(pairs: Iterable[Pair], n_pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """64-bit hashes of the inputs, of whole pairs, and of the inputs `normalised`.

    Args:
        pairs: The pairs.
        n_pairs: Number of pairs.

    Returns:
        Three arrays of shape (n_pairs,); a whole pair is 0 where its target has no text.
    """
    found = np.empty((3, n_pairs), dtype=np.uint64)
    for i, (source, target) in enumerate(pairs):
        found[0, i] = hash_text(source)
        found[1, i] = hash_text(f"{source}\x1f{target}") if target.strip() else 0
        found[2, i] = hash_text(normalised(source))
    return found[0], found[1], found[2]


def hash_text(text: str) -> int:
    """A 64-bit hash above 0 that is the same in every process."""
    return max(1, int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def overlap(first: Sequence[Pair], second: Sequence[Pair]) -> Overlap:
    """Count the overlap of one split with another one.

    Example:
        >>> overlap([("a", "1"), ("B", "2"), ("c", "3")], [("a", "1"), ("b", "9")])
        Overlap(pairs=1, inputs=1, normalised=1, near=0)
    """
    return overlaps(first, [second])[0]


def overlaps(first: Sequence[Pair], others: Sequence[Sequence[Pair]]) -> list[Overlap]:
    """The overlap of one split with each of several others."""
    inputs, pairs, normal = digests(first, len(first))
    beginning = [source for source, _ in _beginning(first)]
    found = []
    for second in others:
        other_inputs, other_pairs, other_normal = digests(second, len(second))
        exact = np.isin(inputs, other_inputs)
        spelt = np.isin(normal, other_normal)
        near = near_duplicates(beginning, [source for source, _ in _beginning(second)])
        found.append(
            Overlap(
                int(np.isin(pairs, other_pairs).sum()),
                int(exact.sum()),
                int((spelt & ~exact).sum()),
                int((near & ~(spelt | exact)[: len(near)]).sum()),
            )
        )
    return found


def _beginning(pairs: Sequence[Pair]) -> list[Pair]:
    """The first pairs, as many as are compared."""
    taken, left = [], MAX_COMPARED
    for pair in pairs:
        left -= min(len(pair[0]), MAX_CHARACTERS)
        if left < 0:
            break
        taken.append(pair)
    return taken


def near_duplicates(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Which texts of the first are near-duplicates of one of the second.

    Two texts are, when of the runs of five characters that are in either of them, `normalised`, a
    share of `SIMILAR` is in both. Which ones to compare is found by MinHash with bands (Broder
    1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3).

    Args:
        first: Texts.
        second: Texts.

    Returns:
        A mask of shape (n_first,).
    """
    texts, others = [[_prepared(text) for text in part] for part in (first, second)]
    found = np.zeros(len(texts), dtype=bool)
    if not texts or not others:
        return found
    hashes, other_hashes = _minhashes(texts), _minhashes(others)
    candidates = _candidates(_bands(hashes), _bands(other_hashes))
    for i, places in candidates.items():
        equal = (other_hashes[places] == hashes[i]).sum(axis=1)
        mine = _shingles(texts[i])
        for place in [
            places[j] for j in np.argsort(-equal)[:N_VERIFIED] if 2 * equal[j] > N_HASHES
        ]:
            theirs = _shingles(others[place])
            both = len(mine & theirs)
            if both >= SIMILAR * (len(mine) + len(theirs) - both):
                found[i] = True
                break
    return found


def _candidates(bands: np.ndarray, other_bands: np.ndarray) -> dict[int, list[int]]:
    """Texts of the second that share a band with one of the first, by the latter's place."""
    found: dict[int, list[int]] = {}
    for band, other in zip(bands.T, other_bands.T, strict=True):
        places: dict[int, list[int]] = {}
        for place, value in enumerate(other.tolist()):
            places.setdefault(value, []).append(place)
        for i in np.flatnonzero(np.isin(band, other)).tolist():
            found.setdefault(i, []).extend(places[int(band[i])][:MAX_SHARED])
    return {i: list(dict.fromkeys(places)) for i, places in found.items()}


def _prepared(text: str) -> str:
    return normalised(text[:MAX_CHARACTERS]).ljust(SHINGLE)


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}


def _bands(hashes: np.ndarray) -> np.ndarray:
    """One hash for each band of MinHashes, shape (n_texts, N_BANDS)."""
    bands = np.zeros((len(hashes), N_BANDS), dtype=np.uint64)
    for row in range(N_ROWS):
        bands = (bands ^ hashes[:, row::N_ROWS]) * np.uint64(0x9E3779B97F4A7C15)
    return bands


def _minhashes(texts: Sequence[str], at_once: int = 2000) -> np.ndarray:
    """MinHashes of texts of at least `SHINGLE` characters, shape (n_texts, N_HASHES)."""
    parts = [_minhashes_of(texts[i : i + at_once]) for i in range(0, len(texts), at_once)]
    return np.concatenate(parts)


def _minhashes_of(texts: Sequence[str]) -> np.ndarray:
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    n_windows = len(codes) - SHINGLE + 1
    mixed = np.zeros(n_windows, dtype=np.uint64)
    for i in range(SHINGLE):
        mixed = mixed * np.uint64(0x100000001B3) + codes[i : i + n_windows]
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    # without the windows that span two texts
    left = np.repeat(np.cumsum(lengths), lengths)[:n_windows] - np.arange(n_windows)
    mixed = mixed[left >= SHINGLE]
    starts = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)[:-1]])
    factors = np.random.default_rng(0).integers(1, 2**63, size=N_HASHES, dtype=np.uint64)
    return np.stack(
        [
            np.minimum.reduceat((mixed * (factor | np.uint64(1))) >> np.uint64(20), starts)
            for factor in factors
        ],
        axis=1,
    )
