"""What was taken from past runs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lensllm.core.past_runs import Taken
from lensllm.reports.tables import Table

SHOWN = 5  # runs by name that a remark is about
_COLUMNS = {
    "model": "model",
    "dataset": "data set",
    "n_samples": "D",
    "seed": "seed",
    "test_loss": "loss",
}


def taken_table(taken: Sequence[Taken]) -> Table:
    """One row a run: each value with where it stands in brackets."""
    frame = pd.DataFrame([_row(item) for item in taken])
    return Table("past_runs", "In brackets: where a run's files tell it.", frame)


def remarks(taken: Sequence[Taken]) -> list[str]:
    """Why runs were left out, and what is to be known of the others, each said once."""
    runs: dict[str, list[str]] = {}
    for item in taken:
        for text in [f"left out: {item.problem}"] if item.problem else item.notes:
            runs.setdefault(text, []).append(item.run.name)
    return [f"{_shown(names)}: {text}" for text, names in runs.items()]


def _shown(names: list[str]) -> str:
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*names[:SHOWN], *more])


def _row(item: Taken) -> dict[str, str]:
    cells = {"run": item.run.name, "file": item.run.path.name}
    for name, header in _COLUMNS.items():
        value = item.found.get(name)
        shown = f"{value:.4g}" if isinstance(value, float) else value
        cells[header] = "–" if value is None else f"{shown} [{item.sources[name]}]"
    return cells
