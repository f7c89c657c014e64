"""Reads a campaign's answer back from its output folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lensllm.api.result import Result
from lensllm.core.data_needs import DataNeeds
from lensllm.core.events import Event
from lensllm.core.evidence import Difference, Evidence
from lensllm.core.measures import recorded_measure
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.task import Candidate
from lensllm.core.trials import results_table
from lensllm.execution.selection_file import read_record
from lensllm.system.harmless import csv_name

T = TypeVar("T")


def read_result(path: Path) -> tuple[Result, dict[str, Any]]:
    """The result of an earlier campaign.

    Args:
        path: Its output folder, or the `selection.json` in it.

    Returns:
        The result, and the content of `selection.json`.

    Raises:
        FileNotFoundError: There is no `selection.json`.
        ValueError: It is another kind of file, or of an older format.
    """
    folder = path if path.is_dir() else path.parent
    record = read_record(path)
    kinds = {
        "selection": "selection.json",
        "curves": "curves.csv",
        "figure": "curves.png",
        "campaign": "campaign.png",
        "report": "report.html",
    }
    paths = {kind: folder / name for kind, name in kinds.items() if (folder / name).is_file()}
    return Result(_selection(record), _curves(paths.get("curves")), folder, paths), record


def _selection(record: Mapping[str, Any]) -> Selection:
    verdict, evidence = record["verdict"], record["test_set"]
    if verdict is not None:
        trial = verdict["next_trial"]
        pair = None if trial is None else (trial["model"], trial["n_samples"])
        contenders = tuple(verdict["contenders"])
        verdict = _of(Verdict, {**verdict, "contenders": contenders, "next_trial": pair})
    if evidence is not None:
        differences = tuple(_of(Difference, item) for item in evidence["differences"])
        evidence = _of(Evidence, {**evidence, "differences": differences})
    values = {
        **record,
        "ranking": tuple(_of(RankedModel, entry) for entry in record["ranking"]),
        "candidates": tuple(
            _of(Candidate, {**entry, "name": entry["model"]}) for entry in record["ranking"]
        ),
        "data_needs": tuple(map(DataNeeds.from_json, record.get("data_needs", ()))),
        "events": tuple(map(Event.from_json, record["events"])),
        "warnings": tuple(record["warnings"]),
        "verdict": verdict,
        "evidence": evidence,
        "measure": recorded_measure(record),
    }
    return _of(Selection, values)


def _of(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object from the values of its fields; numbers that are null are `nan`."""
    types = {item.name: item.type for item in fields(kind)}  # type: ignore[arg-type]
    given = {name: values[name] for name in types if name in values}
    for name, value in given.items():
        if value is None and types[name] == "float":
            given[name] = math.nan
    return kind(**given)


def _curves(path: Path | None) -> pd.DataFrame:
    """The table of trials, with names as they were before they became cells of a CSV file."""
    if path is None:
        return results_table([])
    table = pd.read_csv(path, keep_default_na=True, dtype={"model": str, "dataset": str})
    for name in ("model", "dataset"):
        table[name] = table[name].map(csv_name)
    return table
