"""One's own text pairs: JSON Lines and CSV files."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lensllm.data.pairs import Pair, TextData, make_text_data

logger = logging.getLogger(__name__)
MIN_PAIRS = 10


def load_jsonl(path: str | Path, **options: Any) -> TextData:
    """Load pairs from a JSON Lines file, one object a line.

    Args:
        path: The file.
        **options: `input_field`, `target_field`, `name`, and the rest of `split_pairs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is no object, lacks a field, or there are too few pairs.
    """
    path = Path(path)
    return _load(path, read_jsonl(path), options)


def read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line numbers and objects of a JSON Lines file; empty lines are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is no object, or no text.
    """
    path = _existing(path)
    with _text(path), path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, _object(line, number, path)


def write_jsonl(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as `load_jsonl` reads them: objects with `input` and `target`, one a line.

    Raises:
        OSError: The file cannot be written.
    """
    with Path(path).open("w", encoding="utf-8") as stream:
        for source, target in pairs:
            stream.write(json.dumps({"input": source, "target": target}) + "\n")


def load_csv(path: str | Path, **options: Any) -> TextData:
    """Load pairs from a CSV file with a header.

    Args:
        path: The file.
        **options: As for `load_jsonl`; fields are columns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, or there are too few pairs.
    """
    path = _existing(path)
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 128 KiB a cell
    with _text(path), path.open(encoding="utf-8-sig", newline="") as stream:
        return _load(path, enumerate(csv.DictReader(stream), start=2), options)


@contextmanager
def _text(path: Path) -> Iterator[None]:
    """Name the file where its bytes are no text."""
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected UTF-8 text in {path}, got {error}") from error


def _load(
    path: Path, records: Iterable[tuple[int, Mapping[str, Any]]], options: dict[str, Any]
) -> TextData:
    input_field = options.pop("input_field", "input")
    target_field = options.pop("target_field", "target")
    name = options.pop("name", None) or path.stem
    pairs = [
        (
            _field(record, input_field, "input_field", row, path),
            _field(record, target_field, "target_field", row, path),
        )
        for row, record in records
    ]
    return split_pairs(name, pairs, source=str(path), **options)


def split_pairs(
    name: str,
    pairs: Iterable[Pair],
    *,
    source: str,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    max_evaluation: int = 1000,
    seed: int = 0,
    max_input_tokens: int = 512,
    max_target_tokens: int = 128,
) -> TextData:
    """Drop repeated pairs and split the rest at random; equal inputs stay in one split.

    Args:
        name: Name of the data set.
        pairs: All pairs.
        source: Where they come from, for messages.
        validation_fraction: Share of distinct inputs for validation.
        test_fraction: Share of distinct inputs for the test.
        max_evaluation: Most pairs in the validation and in the test split.
        seed: Seed of the split.
        max_input_tokens: See `TextData`.
        max_target_tokens: See `TextData`.

    Raises:
        ValueError: Shares leave nothing to train on, or there are fewer than ten inputs.
    """
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
    given = list(pairs)
    groups: dict[str, list[Pair]] = {}
    for pair in dict.fromkeys(given):
        groups.setdefault(pair[0], []).append(pair)
    distinct = sum(map(len, groups.values()))
    if distinct < len(given):
        logger.warning("Dropped %d repeated pairs of %s", len(given) - distinct, source)
    if len(groups) < MIN_PAIRS:
        raise ValueError(
            f"Expected at least {MIN_PAIRS} pairs with inputs of their own in {source}, "
            f"got {len(groups)}"
        )
    inputs = list(groups)
    order = np.random.default_rng(seed).permutation(len(inputs))
    n_test = min(max_evaluation, max(1, round(test_fraction * len(inputs))))
    n_validation = min(max_evaluation, max(1, round(validation_fraction * len(inputs))))
    shuffled = [groups[inputs[i]] for i in order]
    parts = (
        shuffled[n_test + n_validation :],
        shuffled[n_test : n_test + n_validation],
        shuffled[:n_test],
    )
    train, validation, test = ([pair for group in part for pair in group] for part in parts)
    return make_text_data(name, train, validation, test, max_input_tokens, max_target_tokens)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a file of text pairs at dataset.path={path}, found none there"
        )
    return path


def _object(line: str, number: int, path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
        if "\\u" in line:  # half of an escaped pair is no text
            json.dumps(record, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"Expected JSON in line {number} of {path}, got {error}") from error
    if not isinstance(record, dict):
        raise ValueError(
            f"Expected an object in line {number} of {path}, got {line.strip()[:60]!r}"
        )
    return record


def _field(record: Mapping[str, Any], field: str, option: str, row: int, path: Path) -> str:
    value = record.get(field)
    if isinstance(value, str) and value.strip():
        return value
    if field in record:
        raise ValueError(
            f"Expected a text in field {field!r} of line {row} of {path}, got {value!r}"
        )
    known = ", ".join(map(str, record))
    raise ValueError(
        f"Expected the field {field!r} (dataset.{option}) in line {row} of {path}, "
        f"which has: {known}"
    )
