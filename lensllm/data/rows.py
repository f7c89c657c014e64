"""Pairs that stay on disk: views of a memory-mapped table, split without loading it."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from lensllm.data.labels import NotATextError, as_text, has_labels, with_label_names
from lensllm.data.leaks import Pair, digests

BATCH = 1000
_PARSER = string.Formatter()


@dataclass(frozen=True)
class Template:
    """How a row of a table becomes a pair of texts.

    A column without a value (null) becomes an empty string.

    Attributes:
        input: Format string of the input; `{document}` is a column, `{translation[de]}` a field
            of one.
        target: Format string of the target.
        join: Separator between the members of a list; without it lists are not accepted as texts.

    Raises:
        ValueError: A format string has no column in it.

    Example:
        >>> row = {"translation": {"de": "Ja", "en": "Yes"}, "note": None}
        >>> Template("{translation[de]}{note}", "{translation[en]}").pair(row)
        ('Ja', 'Yes')
    """

    input: str
    target: str
    join: str | None = None

    def __post_init__(self) -> None:
        for name in ("input", "target"):
            text = getattr(self, name)
            if "{" not in text.replace("{{", ""):
                hint = f"{{{text}}}" if text.isidentifier() else "{column}"
                raise ValueError(
                    f"Expected a column in braces in dataset.{name}, got {text!r}, which is the "
                    f"same text for every row: did you mean 'dataset.{name}={hint}'?"
                )

    def lacking(self, columns: Sequence[str]) -> list[str]:
        """Columns that the format strings name and a table does not have."""
        try:
            parts = [*_PARSER.parse(self.input), *_PARSER.parse(self.target)]
        except ValueError:
            return []  # making a pair says what is wrong
        named = [re.split(r"[.\[]", name)[0] for _, name, _, _ in parts if name]
        return [name for name in dict.fromkeys(named) if name not in columns]

    def pair(self, row: dict[str, Any]) -> Pair:
        """The pair of one row.

        Raises:
            ValueError: A column is missing (the message lists those that exist) or is not text, or
                the format string is invalid.
        """
        row = {column: _Value(value, self.join) for column, value in row.items()}
        try:
            return self.input.format(**row), self.target.format(**row)
        except NotATextError as error:
            raise ValueError(
                f"Expected texts in the columns of dataset.input={self.input!r} and "
                f"dataset.target={self.target!r}, got {error}"
            ) from error
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"Expected format strings of columns in dataset.input={self.input!r} and "
                f"dataset.target={self.target!r}, got a table with {', '.join(row)} "
                f"({type(error).__name__}: {error})"
            ) from error


class _Value:
    """A value of a row as a template shows it; null is an empty string in every format."""

    def __init__(self, value: Any, join: str | None) -> None:
        self._value = value
        self._join = join

    def __format__(self, specification: str) -> str:
        if self._value is None:
            return ""
        if specification and isinstance(self._value, int | float):
            return format(self._value, specification)
        return format(as_text(self._value, self._join), specification)

    def __str__(self) -> str:
        return format(self, "")

    def __getitem__(self, key: str | int) -> _Value:
        return _Value(None if self._value is None else self._value[key], self._join)

    def __getattr__(self, name: str) -> _Value:
        return _Value(getattr(self._value, name), self._join)


class Rows(Sequence[Pair]):
    """Pairs of some rows of a table of `datasets`, made on access.

    Args:
        table: A memory-mapped `datasets.Dataset`.
        template: How a row becomes a pair.
        indices: Rows, in this order; all by default.
    """

    def __init__(self, table: Any, template: Template, indices: np.ndarray | None = None) -> None:
        self.table = table
        self.template = template
        self.indices = np.arange(len(table)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> Rows: ...

    def __getitem__(self, index: int | slice) -> Pair | Rows:
        if isinstance(index, slice):
            return Rows(self.table, self.template, self.indices[index])
        row = with_label_names(self.table[int(self.indices[index])], self.table.features)
        return self.template.pair(row)

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), BATCH):
            columns = self._named(self.table[self.indices[start : start + BATCH]])
            for values in zip(*columns.values(), strict=True):
                yield self.template.pair(dict(zip(columns, values, strict=True)))

    def _named(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Columns with the names of class labels in place of their numbers."""
        features = self.table.features
        for name in [name for name in columns if has_labels(features[name])]:
            columns[name] = [with_label_names(value, features[name]) for value in columns[name]]
        return columns


def take(pairs: Sequence[Pair], positions: np.ndarray) -> Sequence[Pair]:
    """Pairs at some positions; those on disk stay there."""
    if isinstance(pairs, Rows):
        return Rows(pairs.table, pairs.template, pairs.indices[positions])
    return [pairs[i] for i in positions]


def nested_subset(n_total: int, n_samples: int, seed: int) -> np.ndarray:
    """Positions of a training subset: the first entries of one seeded permutation.

    Subsets of one seed are nested: the smaller is a prefix of the larger.

    Args:
        n_total: Training pairs that there are.
        n_samples: Pairs wanted.
        seed: Seed of the permutation.

    Returns:
        Positions, shape (n_samples,).

    Raises:
        ValueError: More are wanted than there are.
    """
    if n_samples > n_total:
        raise ValueError(
            f"Expected `n_samples` <= {n_total}, the training pairs that there are, got {n_samples}"
        )
    return np.random.default_rng(seed).permutation(n_total)[:n_samples]


def with_targets(rows: Rows) -> Rows:
    """The rows whose target is not empty."""
    mask = np.fromiter((bool(target.strip()) for _, target in rows), dtype=bool, count=len(rows))
    return Rows(rows.table, rows.template, rows.indices[mask])


def split_rows(
    rows: Rows, n_validation: int, n_test: int, seed: int
) -> tuple[Rows, Rows, Rows, int]:
    """Split rows at random; repeated and empty pairs are dropped.

    Inputs that are equal, or equal in another spelling, stay in one split.

    Args:
        rows: All rows.
        n_validation: Distinct inputs for validation.
        n_test: Distinct inputs for the test.
        seed: Seed of the split.

    Returns:
        Training, validation and test rows, and the number of rows that were dropped.

    Raises:
        ValueError: There are not enough distinct inputs.
    """
    inputs, pairs, normal = digests(rows, len(rows))
    kept = np.zeros(len(rows), dtype=bool)
    kept[np.unique(pairs, return_index=True)[1]] = True
    kept &= pairs != 0
    distinct, first, group = np.unique(normal[kept], return_index=True, return_inverse=True)
    if len(distinct) < n_validation + n_test + 1:
        raise ValueError(
            f"Expected more than {n_validation + n_test} distinct inputs (dataset.n_validation + "
            f"dataset.n_test), got {len(distinct)}: lower these"
        )
    # By the hashes of the inputs as they are: other spellings must not move all the rest.
    order = np.argsort(np.argsort(inputs[kept][first]))
    place = np.empty(len(distinct), dtype=np.int64)
    place[np.random.default_rng(seed).permutation(len(distinct))] = np.arange(len(distinct))
    at = place[order[group]]
    indices = rows.indices[kept]
    test, validation = at < n_test, (at >= n_test) & (at < n_test + n_validation)
    parts = (
        Rows(rows.table, rows.template, indices[mask])
        for mask in (~(test | validation), validation, test)
    )
    train, held, tested = parts
    return train, held, tested, int((~kept).sum())
