"""Losses of single test examples: how well a test loss, and a difference of two, is known.

A test loss is a ratio of sums over examples, L = Σ S_i / Σ T_i, with the summed cross-entropy S_i
and the target tokens (or bytes) T_i of example i. Its standard error is that of a ratio estimator
(Cochran, *Sampling Techniques*, 1977, section 2.11),

    se² = n / (n − 1) · Σ (S_i − L T_i)² / (Σ T_i)²,

and that of the difference of two candidates on the same examples is the same with the differences
of what each example adds to either loss: what is hard for both cancels.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Unit = Literal["token", "byte"]


@dataclass(frozen=True)
class ExampleLosses:
    """What each test example added to a test loss, in the order of the test set.

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

    def loss(self, unit: Unit = "token") -> float:
        """Nats per target token or byte."""
        return float(self.sums.sum() / self._size(unit).sum())

    def standard_error(self, unit: Unit = "token") -> float:
        """Standard error of the loss over test examples; `nan` with fewer than two of them."""
        return _error(self._added(unit))

    def _size(self, unit: Unit) -> np.ndarray:
        return (self.tokens if unit == "token" else self.n_bytes).astype(float)

    def _added(self, unit: Unit) -> np.ndarray:
        """Deviations (S_i − L T_i) / Σ T_i, which add up to 0."""
        size = self._size(unit)
        return (self.sums - self.loss(unit) * size) / size.sum()

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
            ValueError: The record is none of this kind.
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


def difference(
    first: ExampleLosses, second: ExampleLosses, unit: Unit = "token"
) -> tuple[float, float]:
    """Difference of two losses on the same examples, and its standard error.

    Args:
        first: Losses of one candidate.
        second: Losses of another one.
        unit: Per target token, for candidates with one tokenizer, or per byte.

    Returns:
        First minus second, in nats, and the standard error of that.

    Raises:
        ValueError: They are not of the same examples.
    """
    if len(first) != len(second):
        raise ValueError(
            f"Expected losses of the same test examples, got {len(first)} and {len(second)}"
        )
    added = first._added(unit) - second._added(unit)
    return first.loss(unit) - second.loss(unit), _error(added)


def _error(added: np.ndarray) -> float:
    n = len(added)
    return math.sqrt(n / (n - 1) * float(added @ added)) if n > 1 else math.nan


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def in_original_order(values: Sequence[float], lengths: Sequence[int]) -> np.ndarray:
    """Values of examples that were measured from short to long, in their own order.

    Args:
        values: One value per example, in the order of an unshuffled `LengthBucketSampler`.
        lengths: Length of each example, in the order of the data set.
    """
    ordered = np.empty(len(lengths))
    ordered[np.argsort(np.asarray(lengths), kind="stable")] = values
    return ordered
