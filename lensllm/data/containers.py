"""Reads records: files, patterns and folders, plain or compressed, of any common format."""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lensllm.data.delimited import csv_rows
from lensllm.data.labels import with_label_names

KINDS = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet",
}  # fmt: skip
COMPRESSED = (".gz", ".zst")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
# The beginning of one object that holds all rows: `{"data": [{`, `{"train": [{`.
_WRAPPED = re.compile(r'\{\s*"(data|rows|examples|items|train|validation|test)"\s*:\s*\[\s*\{')
_OTHER_FILES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        place: Where it is, for messages: `line 3 of pairs.jsonl`.
        fields: Its values by name; class labels are their names.
        split: `train`, `validation` or `test` where the container says so, else empty.
        problem: Why it cannot be read, where it cannot; it then has no fields.
    """

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    problem: str = ""


def read_records(
    path: str | Path | Sequence[str], encoding: str = "utf-8", kind: str | None = None
) -> Iterator[Record]:
    """The records of a file, of all files of a folder or pattern, or of a `save_to_disk` folder.

    Args:
        path: A file, a folder, a pattern (`data/**/*.jsonl.gz`), or several of them.
        encoding: Text encoding of the files.
        kind: `json`, `csv` or `parquet`; by default what the file's name ends in.

    Raises:
        FileNotFoundError: There is nothing there.
        ValueError: A file is not text in that encoding, or has no known format.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if len(paths) == 1 and is_saved(folder := Path(paths[0]).expanduser()):
        yield from _saved(folder)
        return
    files = [file for item in paths for file in find_files(item, kind)]
    splits = [_split_of(file) for file in files]
    if "train" not in splits or len(set(splits)) == 1:
        splits = [""] * len(files)
    for file, split in zip(files, splits, strict=True):
        for record in _read(file, kind or kind_of(file), encoding):
            yield Record(record.place, record.fields, record.split or split, record.problem)


def is_saved(folder: Path) -> bool:
    """Whether `datasets` wrote a folder by `save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def find_files(path: str | Path, kind: str | None = None) -> list[Path]:
    """The files that a path stands for: a file, those of a folder, or of a pattern; sorted.

    A file of that very name comes first, so that brackets in names are no pattern.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A folder holds files of several formats.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return [given]
    if given.is_dir():
        found = sorted(p for p in given.rglob("*") if p.is_file() and kind_or_none(p))
        found = [p for p in found if p.name not in _OTHER_FILES and not _hidden(p, given)]
        found = [p for p in found if kind in (None, kind_or_none(p))]
        kinds = sorted({_ending(p) for p in found})
        if len({KINDS[ending] for ending in kinds}) > 1:
            raise ValueError(
                f"Expected files of one format in the folder dataset.path={path}, got "
                f"{', '.join(kinds)}: name some by a pattern, such as {path}/*{kinds[0]}"
            )
    else:
        matches = sorted(glob.glob(str(given), recursive=True))
        found = [Path(match) for match in matches if Path(match).is_file()]
    if not found:
        what = "Parquet files" if kind == "parquet" else "a file of text pairs"
        raise FileNotFoundError(
            f"Expected {what} at dataset.path={path}, found none there{_near(given)}"
        )
    return found


def kind_of(path: Path) -> str:
    """Format of a file by its name.

    Raises:
        ValueError: It is none of `KINDS`.
    """
    kind = kind_or_none(path)
    if kind is None:
        raise ValueError(
            f"Expected a file that ends in {', '.join(KINDS)} (or these with .gz or .zst) at "
            f"dataset.path={path}, got {path.suffix or 'no ending'!r}: save it as one of them"
        )
    return kind


def kind_or_none(path: Path) -> str | None:
    """Format of a file by its name; `None` where it is none of `KINDS`."""
    return KINDS.get(_ending(path))


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _near(path: Path) -> str:
    """Files in the folder in which a file was not found."""
    folder = next((p for p in path.parents if p.is_dir()), Path())
    seen = (p for p in folder.iterdir() if not p.name.startswith("."))
    names = sorted(p.name for p in seen if kind_or_none(p) or p.is_dir())[:8]
    return f"; {folder} has {', '.join(names)}" if names else ""


def _split_of(path: Path) -> str:
    """The split named by a file, or else by its folder; empty where neither names one."""
    for text in (path.name, path.parent.name):
        words = re.split(r"[^a-z]+", text.lower())
        for split, names in _SPLITS.items():
            if set(words).intersection(names):
                return split
    return ""


def _read(path: Path, kind: str, encoding: str) -> Iterator[Record]:
    if kind == "parquet":
        yield from _parquet(path)
        return
    read = _csv if kind == "csv" else _json
    try:
        with open_text(path, encoding) as stream:
            yield from read(stream, path)
    except UnicodeError as error:
        raise ValueError(_undecodable(path, encoding, error)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"Expected a complete compressed file at {path}, got {error}") from error


def open_text(path: Path, encoding: str = "utf-8") -> IO[str]:
    """A file as text, decompressed where its name ends in .gz or .zst; line ends stay.

    Raises:
        ValueError: There is no such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ValueError(
            f"Expected an encoding such as utf-8, utf-16 or latin-1 as dataset.encoding, got "
            f"{encoding!r}"
        ) from None
    name = "utf-8-sig" if name == "utf-8" else name
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=name, newline="")
    if path.suffix.lower() == ".zst":
        import pyarrow

        stream = pyarrow.input_stream(str(path), compression="zstd")
        return io.TextIOWrapper(stream, encoding=name, newline="")
    return path.open(encoding=name, newline="")


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> str:
    """What a file that is not in the encoding seems to be, and what to do."""
    head = bytes(getattr(error, "object", b""))[:1000]
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 4
    guess = "utf-16" if wide else "latin-1"
    shown = "UTF-8" if encoding == "utf-8" else encoding
    return (
        f"Expected {shown} text in {path}, got {error}: it looks like {guess}; add "
        f"dataset.encoding={guess} to the command, or save the file as UTF-8"
    )


def _csv(stream: IO[str], path: Path) -> Iterator[Record]:
    for row, fields, problem in csv_rows(stream, str(path)):
        yield Record(f"line {row} of {path}", fields, problem=problem)


def _json(stream: IO[str], path: Path) -> Iterator[Record]:
    """JSON Lines, or one value over the whole file: an array, or an object that holds arrays."""
    lines = enumerate(stream, start=1)
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    start = first.strip()
    if start.startswith("[") or start == "{":
        yield from _whole(first + stream.read(), path)
        return
    second = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if not second[1] and _WRAPPED.match(start):
        yield from _whole(first, path)
        return
    for place, line in itertools.chain([(number, first), second], lines):
        if line.strip():
            yield _json_line(line, f"line {place} of {path}")


def json_value(text: str) -> Any:
    """A JSON value.

    Raises:
        ValueError: It is not JSON, or has half of an escaped pair of surrogates, which is not text.
    """
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _json_line(line: str, place: str) -> Record:
    try:
        value = json_value(line)
    except ValueError as error:
        return Record(place, problem=f"Expected JSON in {place}, got {error}")
    return _record(value, place)


def _record(value: Any, place: str, split: str = "") -> Record:
    if isinstance(value, dict):
        return Record(place, value, split)
    shown = repr(value)[:60] if not isinstance(value, list) else repr(str(value)[:60])
    return Record(place, problem=f"Expected an object in {place}, got {shown}")


def _whole(text: str, path: Path) -> Iterator[Record]:
    """The records of one JSON value: an array, or an object of arrays (one per split)."""
    try:
        value = json_value(text)
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path}, got {error}") from error
    parts = value if isinstance(value, dict) else {"": value}
    arrays = {key: items for key, items in parts.items() if isinstance(items, list)}
    if not arrays or not all(isinstance(row, dict) for rows in arrays.values() for row in rows[:1]):
        raise ValueError(
            f"Expected an array of objects in {path}, or one object per line, got an object with "
            f"{', '.join(map(str, list(parts)[:12]))}"
        )
    are_splits = set(arrays) <= set(_SPLITS) and "train" in arrays
    for key, items in arrays.items():
        for number, item in enumerate(items, start=1):
            place = f"item {number} of {f'{key} in ' if key else ''}{path}"
            yield _record(item, place, key if are_splits else "")


def _parquet(path: Path) -> Iterator[Record]:
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            known = b"huggingface" in (schema.metadata or {})  # what class labels are called
            features = datasets.Features.from_arrow_schema(schema) if known else None
            number = 0
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(f"row {number} of {path}", with_label_names(row, features))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise ValueError(f"Expected a Parquet file at {path}, got: {error}") from error


def _saved(folder: Path) -> Iterator[Record]:
    """The rows of a folder that `datasets` wrote by `save_to_disk`, with the splits that it has."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, TypeError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"Expected a data set of save_to_disk in {folder}, got: {error}"
        ) from error
    parts = found if isinstance(found, dict) else {"": found}
    for split, table in parts.items():
        part = _split_of(Path(split)) if "train" in parts else ""
        for number, row in enumerate(table.with_format(None), start=1):
            place = f"row {number} of {f'{split} in ' if split else ''}{folder}"
            yield Record(place, with_label_names(row, table.features), part)
