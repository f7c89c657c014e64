"""One training run as its files tell it, before anything is made of it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of a tracker's states: the run did not come to its end, and its last loss is not that of its D.
UNFINISHED = ("crashed", "failed", "killed", "preempted", "running")


@dataclass(frozen=True)
class Count:
    """D as it is computed from other counts.

    Attributes:
        n_samples: D.
        how: From what.
        caveat: Why it may be another one; empty where it may not.
    """

    n_samples: int
    how: str
    caveat: str = ""


@dataclass(frozen=True)
class PastRun:
    """One training run.

    Attributes:
        name: Its folder below the one that was read, or its name in a tracker.
        path: The file of its losses.
        config: Settings by the file that told them, nested keys joined by dots.
        history: What was logged, oldest first; `step` where it is known.
        untrained: What was logged before the first step.
        n_samples: D where the source lets it be computed from other counts.
        notes: What is to be known of the run.
        problem: Why nothing can be made of it; empty where something can.
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
        """A setting, or the last value that was logged under this name, and where it stands."""
        for file, values in self.config.items():
            if not is_blank(values.get(key)):
                return values[key], f"{key} in {file}"
        for row in reversed(self.history):
            if not is_blank(row.get(key)):
                return row[key], f"{key} in {self.path.name}"
        return None


def is_blank(value: Any) -> bool:
    """Whether a cell or a JSON value says nothing."""
    return value is None or value == ""


def number(value: Any) -> float:
    """A value as a float; `nan` where it is none.

    Example:
        >>> number("2.5"), number(True), number("x")
        (2.5, nan, nan)
    """
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots.

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
        ValueError: The file is no whole JSON object, as where a run was killed while it wrote it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"Expected whole JSON in {path}, got: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected a JSON object in {path}, got a {type(found).__name__}")
    return found


def csv_header(path: Path) -> list[str]:
    """The first row of a CSV file; empty where it is no text.

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
        ValueError: The file is no UTF-8 text with commas.
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
    """The name of a run's folder below the one that was read."""
    folder, root = folder.resolve(), root.resolve()
    inside = folder != root and folder.is_relative_to(root)
    return folder.relative_to(root).as_posix() if inside else folder.name
