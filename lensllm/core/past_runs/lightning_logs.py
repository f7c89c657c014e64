"""Runs of Lightning from its CSV logger: `metrics.csv` beside `hparams.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lensllm.core.past_runs.run import PastRun, csv_header, flat, read_rows, run_name
from lensllm.system.limits import parse_yaml

METRICS, HPARAMS = "metrics.csv", "hparams.yaml"


def is_lightning_csv(path: Path) -> bool:
    """Whether a file was written by Lightning's CSV logger, which always has a column `step`."""
    return path.name == METRICS and "step" in csv_header(path)


def read_lightning_runs(path: Path) -> list[PastRun]:
    """The run of one `metrics.csv`, or those of all such files below a folder."""
    files = [path] if path.is_file() else sorted(path.rglob(METRICS))
    root = path.parent if path.is_file() else path
    return [_read_run(file, root) for file in files]


def _read_run(path: Path, root: Path) -> PastRun:
    name, notes = run_name(path.parent, root), []
    try:
        _, rows = read_rows(path)
    except ValueError as error:
        return PastRun(name, path, problem=str(error))
    settings: dict[str, Any] = {}
    hparams = path.parent / HPARAMS
    if hparams.is_file():
        try:
            found = parse_yaml(hparams.read_text(encoding="utf-8"), hparams)
            settings = flat(found) if isinstance(found, dict) else {}
        except ValueError as error:  # such as a file with Python objects, which are not built here
            notes.append(f"{HPARAMS} is not read: {error}".partition("\n")[0])
    return PastRun(name, path, {HPARAMS: settings}, tuple(rows), notes=tuple(notes))
