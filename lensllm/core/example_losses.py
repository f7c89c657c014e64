"""Losses of single test examples, for the standard errors of test losses and their differences.

A test loss is a ratio of sums over examples, L = Σ S_i / Σ T_i, with the summed cross-entropy S_i
and the target tokens (or bytes) T_i of example i. Its standard error is that of a ratio estimator
(Cochran, *Sampling Techniques*, 1977, section 2.11),

    se² = n / (n − 1) · Σ (S_i − L T_i)² / (Σ T_i)²,

and the standard error of the difference of two candidates on the same examples follows from the
differences of each example's contributions to the two losses: what is hard for both cancels.
Products of the contributions to two losses give their covariance.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ExampleLosses:
    """The contribution of each test example to a test loss, in the order of the test set.

    Attributes:
        sums: Summed cross-entropy of the target in nats, shape (n_examples,).
        tokens: Target tokens, shape (n_examples,).
        n_bytes: UTF-8 bytes of the target, shape (n_examples,).
    """

    sums: np.ndarray
    tokens: np.ndarray
    n_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.sums)

    def loss(self) -> float:
        """Nats per target token."""
        return float(self.sums.sum() / self.tokens.sum())

    def standard_error(self) -> float:
        """Standard error of the loss over test examples; `nan` with fewer than two of them."""
        return _error(self._added)

    def per_byte(self) -> ExampleLosses:
        """The same with bytes instead of tokens: the loss is per byte of target text."""
        return replace(self, tokens=self.n_bytes)

    @property
    def _added(self) -> np.ndarray:
        """Deviations (S_i − L T_i) / Σ T_i, which add up to 0."""
        return (self.sums - self.loss() * self.tokens) / self.tokens.sum()

    def to_json(self) -> dict[str, Any]:
        """Half-precision sums and whole counts, in base 64: six bytes per example."""
        return {
            "sums": _packed(self.sums.astype("<f2")),
            "tokens": _packed(self.tokens.astype("<u2")),
            "bytes": _packed(self.n_bytes.astype("<u2")),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ExampleLosses | None:
        """The inverse of `to_json`; `None` for an empty record.

        Raises:
            ValueError: The record has another format.
        """
        if not record:
            return None
        kinds = {"sums": "<f2", "tokens": "<u2", "bytes": "<u2"}
        try:
            arrays = [
                np.frombuffer(base64.b64decode(record[name], validate=True), kind)
                for name, kind in kinds.items()
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"Expected losses of test examples, got {error!r}") from error
        if len({len(array) for array in arrays}) != 1:
            raise ValueError("Expected as many losses of test examples as sizes of them")
        return cls(*(array.astype(float) for array in arrays))


def pack_scores(scores: Sequence[float]) -> str:
    """Scores of test examples in half precision, in base 64: two bytes per example."""
    return _packed(np.asarray(scores, dtype=float).astype("<f2"))


def example_errors(packed: str, bound: float) -> ExampleLosses | None:
    """The errors of test examples, |bound − score|: losses of which every example has one.

    Args:
        packed: What `pack_scores` returns; empty for none.
        bound: The best possible score.

    Raises:
        ValueError: The text has another format.
    """
    if not packed:
        return None
    try:
        scores = np.frombuffer(base64.b64decode(packed, validate=True), "<f2").astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected scores of test examples, got {error!r}") from error
    return ExampleLosses(np.abs(bound - scores), np.ones(len(scores)), np.ones(len(scores)))


def difference(first: ExampleLosses, second: ExampleLosses) -> tuple[float, float]:
    """Difference of two losses on the same examples, and its standard error.

    Args:
        first: Losses of one candidate.
        second: Losses of another one.

    Returns:
        First minus second, in nats, and the standard error of this difference.

    Raises:
        ValueError: They are not of the same examples.
    """
    _check_same([first, second])
    return first.loss() - second.loss(), _error(first._added - second._added)


def log_covariance(losses: Sequence[ExampleLosses]) -> np.ndarray:
    """Covariance over test examples of log losses on the same examples, (n_losses, n_losses).

    Args:
        losses: Losses of candidates, at least two examples each.

    Raises:
        ValueError: They are not of the same examples.
    """
    _check_same(losses)
    added = np.array([item._added / item.loss() for item in losses])
    n = added.shape[1]
    return n / (n - 1) * added @ added.T


def _check_same(losses: Sequence[ExampleLosses]) -> None:
    for item in losses[1:]:
        if len(item) != len(losses[0]):
            raise ValueError(
                f"Expected losses of the same test examples, got {len(losses[0])} and {len(item)}"
            )


def _error(added: np.ndarray) -> float:
    n = len(added)
    return math.sqrt(n / (n - 1) * float(added @ added)) if n > 1 else math.nan


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def in_original_order(values: Sequence[float], lengths: Sequence[int]) -> np.ndarray:
    """Reorder values of examples measured from short to long into the order of the data set.

    Args:
        values: One value per example, in the order of an unshuffled `LengthBucketSampler`.
        lengths: Length of each example, in the order of the data set.
    """
    ordered = np.empty(len(lengths))
    ordered[np.argsort(np.asarray(lengths), kind="stable")] = values
    return ordered
