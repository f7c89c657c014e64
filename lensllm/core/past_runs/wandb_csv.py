"""Runs of Weights & Biases from its CSV exports: a table of runs, a history, or a chart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lensllm.core.past_runs.run import UNFINISHED, PastRun, read_rows

# A chart's columns are `run - metric`, and the same with these endings for the ends of its bands.
_OF_CHART = re.compile(r"(?P<run>.+) - (?P<metric>\S+?)(?P<band>__MIN|__MAX)?")
_WHICH = ("ID", "Name", "Created")  # columns that identify a run: names need not be unique


def is_wandb_csv(header: list[str]) -> bool:
    """Whether a header is one of W&B's: runs have a `Name`; a chart's columns have two parts."""
    if "Name" in header:
        # Curves in the wide layout have only sizes besides `Name`.
        return not all(name.isdigit() or name in ("Name", "size", "family") for name in header)
    return len(header) > 1 and all(_OF_CHART.fullmatch(name) for name in header[1:])


def read_wandb_csv(path: Path) -> list[PastRun]:
    """Runs of one CSV file.

    Raises:
        ValueError: The file has no rows, or was not exported by W&B.
    """
    header, rows = read_rows(path)
    if not rows:
        raise ValueError(f"Expected rows in {path}, got none below its header")
    if not is_wandb_csv(header):
        raise ValueError(f"Expected a column `Name`, as W&B exports it, in {path}, got {header}")
    return _runs(path, rows) if "Name" in header else _chart(path, header, rows)


def _runs(path: Path, rows: list[dict[str, str]]) -> list[PastRun]:
    """One run per row, or per group of rows with the same name, which are its history."""
    groups: dict[tuple[Any, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in _WHICH), []).append(row)
    return [_run(path, group) for group in groups.values()]


def _run(path: Path, rows: list[dict[str, str]]) -> PastRun:
    name = rows[0].get("Name") or rows[0].get("ID") or path.stem
    state = rows[-1].get("State", "").lower()
    if state in UNFINISHED:
        return PastRun(name, path, problem=f"its state is {state}, so that its loss is not final")
    same = set.intersection(*({*row.items()} for row in rows)) if len(rows) > 1 else set()
    history = tuple({**row, "step": row["_step"]} if "_step" in row else row for row in rows)
    if len(rows) > 1:
        # Values that are the same in all rows are settings; the others were logged.
        varying = {key for row in rows for key in row} - {key for key, _ in same}
        history = tuple(
            {k: v for k, v in row.items() if k in {*varying, "step"}} for row in history
        )
        return PastRun(name, path, {path.name: dict(same)}, history)
    note = "a table of runs holds the last value of each measure alone"
    return PastRun(name, path, {path.name: rows[0]}, history, notes=(note,))


def _chart(path: Path, header: list[str], rows: list[dict[str, str]]) -> list[PastRun]:
    """One run for each part of the header before ` - `."""
    histories: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        logged: dict[str, dict[str, Any]] = {}
        for column in header[1:]:
            found = _OF_CHART.fullmatch(column)
            if found and not found["band"] and column in row:
                logged.setdefault(found["run"], {})[found["metric"]] = row[column]
        for run, values in logged.items():
            histories.setdefault(run, []).append({"step": row.get(header[0]), **values})
    return [PastRun(run, path, history=tuple(logged)) for run, logged in histories.items()]
