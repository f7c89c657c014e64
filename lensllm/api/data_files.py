"""Data that are in memory, as files, so that every process and every later call can read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lensllm.data.containers import read_records
from lensllm.data.files import readable
from lensllm.data.labels import with_label_names
from lensllm.system.atomic import write_whole

KINDS = "a path, a datasets.Dataset or DatasetDict, a pandas DataFrame, or a list of dicts or pairs"


def data_path(data: Any, folder: Path, **splits: Any) -> str:
    """The path of a data set; what is in memory is written to a folder named by its content.

    Args:
        data: The rows, all of them or those to train on: a path; a `datasets.Dataset`; a
            `DatasetDict`, whose splits are kept; a pandas DataFrame; a list of dicts or of
            (input, target) pairs.
        folder: Where what is in memory is written, as JSON Lines.
        **splits: `validation` and `test`, likewise, where they are given; `None` is none.

    Returns:
        What `lensllm.data.load_file` reads.

    Raises:
        TypeError: It is of another kind.
        StorageError: The folder cannot be written.
    """
    given = {name: rows for name, rows in splits.items() if rows is not None}
    if isinstance(data, str | Path) and not given:
        return str(data)
    parts = dict(data) if _is_kind(data, "DatasetDict") else {"train": data}
    texts = {name: _lines(rows) for name, rows in {**parts, **given}.items()}
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    for name, text in texts.items():
        path = folder / digest / f"{name}.jsonl"
        if not path.is_file():
            write_whole(path, text)
    return str(folder / digest)


def _lines(rows: Any) -> str:
    """Rows as JSON Lines."""
    if _is_kind(rows, "DataFrame"):
        return rows.to_json(orient="records", lines=True, force_ascii=False, date_format="iso")
    lines = (json.dumps(row, ensure_ascii=False, default=_plain) for row in _rows(rows))
    return "".join(f"{line}\n" for line in lines)


def _rows(rows: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(rows, str | Path):
        yield from (record.fields for record in readable(read_records(rows)))
    elif _is_kind(rows, "Dataset"):
        yield from (with_label_names(row, rows.features) for row in rows)
    elif isinstance(rows, Iterable) and not isinstance(rows, Mapping | bytes):
        yield from (_row(row, place) for place, row in enumerate(rows, start=1))
    else:
        raise TypeError(f"Expected {KINDS} as data, got {type(rows).__name__}")


def _row(row: Any, place: int) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, list | tuple) and len(row) == 2:
        return {"input": row[0], "target": row[1]}
    raise TypeError(f"Expected a dict or an (input, target) pair in row {place}, got {row!r:.80}")


def _is_kind(value: Any, name: str) -> bool:
    """Whether a value is of a class of this name in `datasets` or pandas, without importing it."""
    names = {(kind.__name__, kind.__module__.partition(".")[0]) for kind in type(value).__mro__}
    return bool(names & {(name, "datasets"), (name, "pandas")})


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python; dates and the like as texts."""
    return value.item() if hasattr(value, "item") else str(value)
