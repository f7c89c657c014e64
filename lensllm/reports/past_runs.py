"""The values taken from past runs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lensllm.core.past_runs import Taken
from lensllm.reports.tables import Table

_COLUMNS = {
    "model": "model",
    "dataset": "data set",
    "n_samples": "D",
    "seed": "seed",
    "test_loss": "loss",
}


def taken_table(taken: Sequence[Taken]) -> Table:
    """One row per run: each value, with its source in brackets."""
    frame = pd.DataFrame([_row(item) for item in taken])
    return Table("past_runs", "In brackets: where a run's files tell it.", frame)


def _row(item: Taken) -> dict[str, str]:
    cells = {"run": item.run.name, "file": item.run.path.name}
    for name, header in _COLUMNS.items():
        value = item.found.get(name)
        shown = f"{value:.4g}" if isinstance(value, float) else value
        cells[header] = "–" if value is None else f"{shown} [{item.sources[name]}]"
    return cells
