"""Users' text pairs in files: JSON Lines and CSV with named fields, or any format."""

from __future__ import annotations

import difflib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lensllm.data.containers import COMPRESSED, Record, read_records
from lensllm.data.conversations import LossOn, check_loss_on
from lensllm.data.fields import Format, MisfitError, known_formats, recognise
from lensllm.data.leaks import Pair
from lensllm.data.pairs import TextData
from lensllm.data.rows import Template
from lensllm.data.splitting import split_pairs

logger = logging.getLogger(__name__)
N_FIRST = 100  # rows that the format is recognised by
MAX_ODD_SHARE = 0.05


def load_jsonl(path: str | Path, **options: Any) -> TextData:
    """Load pairs from JSON Lines, one object per line, or an array of objects.

    Args:
        path: A file, folder or pattern, see `read_records`.
        **options: `input_field`, `target_field`, `name`, `encoding`, and the rest of `split_pairs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not an object, lacks a field, or there are too few pairs.
    """
    return _load(path, "json", **options)


def write_jsonl(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as `load_jsonl` reads them: objects with `input` and `target`, one per line.

    Raises:
        OSError: The file cannot be written.
    """
    with Path(path).open("w", encoding="utf-8") as stream:
        for source, target in pairs:
            stream.write(json.dumps({"input": source, "target": target}) + "\n")


def load_csv(path: str | Path, **options: Any) -> TextData:
    """Load pairs from CSV with a header.

    Args:
        path: A file, folder or pattern, see `read_records`.
        **options: As for `load_jsonl`; fields are columns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, a row has too many cells, a quote is not closed, or there
            are too few pairs.
    """
    return _load(path, "csv", **options)


def _load(
    path: str | Path,
    kind: str,
    *,
    input_field: str = "input",
    target_field: str = "target",
    name: str | None = None,
    encoding: str = "utf-8",
    **options: Any,
) -> TextData:
    pairs = [
        (
            _field(record, input_field, "input_field"),
            _field(record, target_field, "target_field"),
        )
        for record in readable(read_records(path, encoding, kind))
    ]
    return split_pairs(name or name_of(path), pairs, source=str(path), **options)


def readable(records: Iterable[Record]) -> Iterator[Record]:
    """The records, after a check that each is readable.

    Raises:
        ValueError: One is not.
    """
    for record in records:
        if record.problem:
            raise ValueError(record.problem)
        yield record


def name_of(path: str | Path | Sequence[str]) -> str:
    """Name of a data set by where it is: that of the file without endings, or of the folder.

    Example:
        >>> name_of("a/news.v2.jsonl.gz"), name_of("a/news/**/*.parquet"), name_of("a/x-*.csv")
        ('news.v2', 'news', 'x')
    """
    first = Path(path if isinstance(path, str | Path) else path[0]).expanduser().absolute()
    file = first if first.suffix not in COMPRESSED else first.with_suffix("")
    stems = (file.name if first.is_dir() else file.stem, *reversed(first.parts[:-1]))
    named = (stem.strip("*?-_") for stem in stems)
    return next((name for name in named if name and not set(name) & set("*?[/")), "file")


def _field(record: Record, field: str, option: str) -> str:
    value = record.fields.get(field)
    if isinstance(value, str) and value.strip():
        return value
    if field in record.fields:
        raise ValueError(f"Expected a text in field {field!r} of {record.place}, got {value!r}")
    known = ", ".join(map(str, record.fields))
    raise ValueError(
        f"Expected the field {field!r} (dataset.{option}) in {record.place}, which has: {known}"
    )


def load_file(
    path: str | Path | Sequence[str],
    name: str | None = None,
    *,
    input: str | None = None,  # noqa: A002
    target: str | None = None,
    join: str | None = None,
    loss_on: LossOn = "last",
    encoding: str = "utf-8",
    max_odd_share: float = MAX_ODD_SHARE,
    **options: Any,
) -> TextData:
    """Load pairs from files of any common format, which is recognised by its fields.

    Rows that are not of the format are dropped and counted, and the first ones are reported. Splits
    named by the files (`train-00000.parquet`, `test.jsonl`) are kept, the others taken from the
    training rows.

    Args:
        path: What `read_records` takes.
        name: Name of the data set; that of the file or folder by default.
        input: Format string of the input (see `Template`), where the format is not to be
            recognised; with `target`.
        target: Format string of the target.
        join: Separator between the members of a list; without it lists are not accepted as texts.
        loss_on: For conversations, see `conversation_pairs`.
        encoding: Text encoding of the files.
        max_odd_share: Largest share of the rows that may be dropped; a single row always may.
        **options: The rest of `split_pairs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No format is recognised, too many rows are not of it, or see `split_pairs`.
    """
    check_loss_on(loss_on)
    if not 0 <= max_odd_share < 1:
        raise ValueError(f"Expected dataset.max_odd_share in [0, 1), got {max_odd_share}")
    if (input is None) != (target is None):
        raise ValueError(
            f"Expected both dataset.input and dataset.target, or neither, got {input!r} and "
            f"{target!r}"
        )
    records = read_records(path, encoding)
    first = list(itertools.islice(records, N_FIRST))
    rows = [record.fields for record in first if not record.problem]
    if input is not None and target is not None:
        template = Template(input, target, join)
        _check_columns(
            template, list(dict.fromkeys(str(name) for row in rows for name in row)), path
        )
        form = _template_format(template)
    elif rows:
        form = recognise(rows, known_formats(loss_on, join), str(path))
    else:
        raise ValueError(first[0].problem if first else f"Expected rows in {path}, got none")
    found = _Found(form, str(path))
    for record in first:
        found.take(record)
    found.check(at_most=0.5)
    for record in records:
        found.take(record)
    found.check(at_most=max_odd_share)
    logger.info("Read %d rows of %s as %s", found.n_rows, path, form.name)
    if found.odd:
        logger.warning(
            "Dropped %d of %d rows of %s that are not %s: %s",
            len(found.odd),
            found.n_rows,
            path,
            form.name,
            "; ".join(found.odd[:3]),
        )
    given = {split: found.pairs.get(split, []) for split in ("validation", "test")}
    train = found.pairs.get("", []) + found.pairs.get("train", [])
    return split_pairs(
        name or name_of(path),
        train,
        source=str(path),
        groups=found.groups if loss_on == "assistant" else None,
        given=given,
        **options,
    )


def _check_columns(template: Template, columns: Sequence[str], path: object) -> None:
    """Refuse a template with a column that no row has, and name the one that may be meant."""
    lacking = template.lacking(columns)
    if not (lacking and columns):
        return
    near = [name for name in columns if lacking[0].lower() in name.lower()]
    near += difflib.get_close_matches(lacking[0], columns, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"Expected columns of {path} in dataset.input and dataset.target, got {lacking[0]}; it has "
        f"{', '.join(columns)}{hint}"
    )


def _template_format(template: Template) -> Format:
    def pairs(fields: Mapping[str, Any]) -> list[Pair]:
        try:
            pair = template.pair(dict(fields))
        except ValueError as error:
            raise MisfitError(str(error)) from error
        for side, text in zip(("input", "target"), pair, strict=True):
            if not text.strip():
                raise MisfitError(f"expected a text as {side}, got {text!r}")
        return [pair]

    return Format(f"pairs ({template.input} -> {template.target})", (), pairs)


class _Found:
    """Pairs of the records so far, by split, and what was dropped."""

    def __init__(self, form: Format, source: str) -> None:
        self.form = form
        self.source = source
        self.pairs: dict[str, list[Pair]] = {}
        self.groups: list[str] = []  # of those to train on: the first input of each conversation
        self.n_rows = 0
        self.odd: list[str] = []

    def take(self, record: Record) -> None:
        self.n_rows += 1
        try:
            if record.problem:
                raise MisfitError(record.problem)
            pairs = self.form.pairs(record.fields)
        except MisfitError as error:
            self.odd.append(f"{record.place}: {error}")
            return
        self.pairs.setdefault(record.split, []).extend(pairs)
        if record.split in ("", "train"):
            self.groups += [pairs[0][0]] * len(pairs)

    def check(self, at_most: float) -> None:
        """Raise a ValueError where there are more odd rows than that share, and more than one."""
        n_odd = len(self.odd)
        if n_odd > max(1, at_most * self.n_rows) or n_odd == self.n_rows:
            advice = "mend them"
            if n_odd < self.n_rows:
                advice += ", or raise dataset.max_odd_share"
            raise ValueError(
                f"Expected rows that are {self.form.name} in {self.source}, got {n_odd} of "
                f"{self.n_rows} that are not, such as {'; '.join(self.odd[:2])}: {advice}"
            )
