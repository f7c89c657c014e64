"""One training run as recorded in its files, before any interpretation."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# States of a tracker: the run did not finish, so its last loss is not the loss for its D.
UNFINISHED = ("crashed", "failed", "killed", "preempted", "running")


@dataclass(frozen=True)
class Count:
    """A value of D that was computed from other counts.

    Attributes:
        n_samples: D.
        how: The counts that it was computed from.
        caveat: Why it may be wrong; empty if it is certain.
    """

    n_samples: int
    how: str
    caveat: str = ""


@dataclass(frozen=True)
class PastRun:
    """One training run.

    Attributes:
        name: Its folder relative to the one that was read, or its name in a tracker.
        path: The file of its losses.
        config: Settings by the file that records them, nested keys joined by dots.
        history: Logged values, oldest first, with `step` if it is known.
        untrained: Values that were logged before the first step.
        n_samples: D, if the source allows it to be computed from other counts.
        notes: Remarks about the run.
        problem: Why the run is unusable; empty if it is usable.
    """

    name: str
    path: Path
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    untrained: Mapping[str, Any] = field(default_factory=dict)
    n_samples: Count | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""

    def setting(self, key: str) -> tuple[Any, str] | None:
        """A setting, or the last value logged under this name, and where it was found."""
        for file, values in self.config.items():
            if not is_blank(values.get(key)):
                return values[key], f"{key} in {file}"
        for row in reversed(self.history):
            if not is_blank(row.get(key)):
                return row[key], f"{key} in {self.path.name}"
        return None


def is_blank(value: Any) -> bool:
    """Whether a cell or a JSON value is empty."""
    return value is None or value == ""


def number(value: Any) -> float:
    """A value as a float; `nan` if it is not a number.

    Example:
        >>> number("2.5"), number(True), number("x")
        (2.5, nan, nan)
    """
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as a flat one, keys joined by dots.

    Example:
        >>> flat({"data": {"name": "x"}, "seed": 1})
        {'data.name': 'x', 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: The file is not a complete JSON object, for example after a kill while writing.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"Expected whole JSON in {path}, got: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected a JSON object in {path}, got a {type(found).__name__}")
    return found


def csv_header(path: Path) -> list[str]:
    """The first row of a CSV file; empty if the file is not text.

    Example:
        >>> csv_header(Path("no such folder"))
        []
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [name.strip() for name in next(csv.reader(stream), [])]
    except (UnicodeDecodeError, csv.Error, OSError):
        return []


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV file; empty cells are left out.

    Raises:
        ValueError: The file is not UTF-8 text with commas.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey="")
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [{k: v for k, v in row.items() if k and not is_blank(v)} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected UTF-8 text with commas in {path}, got {error}") from error
    return header, [row for row in rows if row]


def run_name(folder: Path, root: Path) -> str:
    """The path of a run's folder relative to the one that was read."""
    folder, root = folder.resolve(), root.resolve()
    inside = folder != root and folder.is_relative_to(root)
    return folder.relative_to(root).as_posix() if inside else folder.name
