"""Reads CSV as it occurs: a row is read correctly or reported, never lost or cut silently."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping
from typing import IO, Any

logger = logging.getLogger(__name__)

SWALLOWED = 3  # lines of one cell that are whole rows by themselves: a quote was not closed


def csv_rows(stream: IO[str], source: str) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """The rows of a CSV with a header; commas, or semicolons or tabs where the header has none.

    Args:
        stream: The text, its line ends kept.
        source: What to call it in messages.

    Yields:
        The line at which a row begins, its cells by column, and what is wrong with it. A row that
        is too short lacks its last columns (`None`); one that is too long has a problem, unless its
        surplus cells are empty.

    Raises:
        ValueError: A name is twice in the header, or a quote is not closed or is misplaced.
    """
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 128 KiB a cell
    before, head = -1, "\n"
    while not head.strip() and head:
        before, head = before + 1, stream.readline()
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    reader = csv.reader(_chain(head, stream), delimiter=delimiter, strict=True)
    header = next(reader, [])
    named = [name for name in header if name]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"Expected each column once in the header of {source}, got {twice[0]!r}")
    start = before + reader.line_num + 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(_stray(start, source, error)) from error
        if row:
            for cell in row:
                _check_swallowed(cell, len(header), delimiter, start, source)
            yield start, _named(header, row), _too_long(header, row, start, source)
        start = before + reader.line_num + 1


def _chain(first: str, stream: IO[str]) -> Iterator[str]:
    yield first
    yield from stream


def _named(header: list[str], row: list[str]) -> dict[str, Any]:
    cells: list[str | None] = [*row, *[None] * (len(header) - len(row))]
    return dict(zip(header, cells, strict=False))


def _too_long(header: list[str], row: list[str], start: int, source: str) -> str:
    if not any(cell.strip() for cell in row[len(header) :]):
        return ""
    return (
        f"Expected {len(header)} cells in line {start} of {source}, got {len(row)}: put a text "
        f'that holds the separator in quotes ("{",".join(row[len(header) - 1 :])[:40]}")'
    )


def _stray(start: int, source: str, error: csv.Error) -> str:
    return (
        f"Expected quotes around whole cells in {source}, got one that is open or stands within a "
        f"cell in the row that begins at line {start} ({error}): close it, or write it twice in "
        "a quoted cell"
    )


def _check_swallowed(cell: str, width: int, delimiter: str, start: int, source: str) -> None:
    """Refuse a cell most of whose lines would be whole rows: its quote belongs to another one."""
    lines = cell.splitlines()[1:]
    if width < 2 or not lines:
        return
    whole = [line for line in lines if line.count(delimiter) == width - 1]
    if len(whole) == len(lines) < SWALLOWED:
        logger.warning(
            "A cell of line %d of %s goes on over lines that could be rows (%r): is a quote not "
            "closed there?",
            start,
            source,
            whole[0][:40],
        )
    elif len(whole) > 0.9 * len(lines):
        raise ValueError(
            f"Expected texts in the cells of line {start} of {source}, got one that goes on over "
            f"{len(lines)} lines which are rows themselves, such as {whole[0][:40]!r}: a quote is "
            "not closed there; write a quote inside a text twice, within quotes"
        )
