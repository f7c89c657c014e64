"""Detect which program wrote the runs at a path, and read them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from lensllm.core.past_runs.lightning_logs import METRICS, is_lightning_csv, read_lightning_runs
from lensllm.core.past_runs.optuna_studies import is_optuna_storage, read_optuna_trials
from lensllm.core.past_runs.run import PastRun, csv_header
from lensllm.core.past_runs.trainer_state import STATE, read_trainer_runs
from lensllm.core.past_runs.wandb_csv import is_wandb_csv, read_wandb_csv
from lensllm.core.past_runs.wandb_files import read_wandb_folders

READERS: dict[str, Callable[[Path], list[PastRun]]] = {
    "trainer": read_trainer_runs,
    "wandb": read_wandb_folders,
    "wandb_csv": read_wandb_csv,
    "lightning": read_lightning_runs,
    "optuna": read_optuna_trials,
}


_TRIAL_FILE = re.compile(r"[0-9a-f]{16}\.json")


def is_trial_store(folder: Path) -> bool:
    """Whether a folder holds trials of this project."""
    return any(_TRIAL_FILE.fullmatch(file.name) for file in folder.glob("*.json"))


def recognise(path: str | Path) -> str | None:
    """The source of the runs at a path.

    Args:
        path: A file, a folder, or the URL of an Optuna storage.

    Returns:
        A key of `READERS`; `None` if there is no past run.

    Raises:
        ValueError: A folder holds runs of several sources.
    """
    if "://" in str(path):
        return "optuna"
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        return None
    if path.name == STATE:
        return "trainer"
    if path.suffix == ".wandb":
        return "wandb"
    if path.suffix == ".csv":
        if is_lightning_csv(path):
            return "lightning"
        return "wandb_csv" if is_wandb_csv(csv_header(path)) else None
    return "optuna" if is_optuna_storage(path) else None


def _of_folder(folder: Path) -> str | None:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            if name == STATE:
                found["trainer"] = name
            elif name.startswith("run-") and name.endswith(".wandb"):
                found["wandb"] = name
            elif name == METRICS and is_lightning_csv(Path(parent, name)):
                found["lightning"] = name
    if len(found) > 1:
        raise ValueError(
            f"Expected runs of one source in {folder}, got {', '.join(found.values())}: say which "
            f"with source={' or source='.join(sorted(found))}"
        )
    return next(iter(found), None)


def read_past_runs(path: str | Path, source: str | None = None) -> list[PastRun]:
    """The runs at a path, in the order of their names.

    Args:
        path: A file, a folder, or the URL of an Optuna storage.
        source: A key of `READERS`; detected by default.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: There are no runs, or they cannot be read.
    """
    if "://" not in str(path) and not Path(path).exists():
        raise FileNotFoundError(f"Expected past runs, found nothing at {path}")
    kind = source or recognise(path)
    if source is not None and source not in READERS:
        raise ValueError(f"Expected `source` among {', '.join(READERS)}, got {source!r}")
    wanted = (
        f"{STATE}, run-*.wandb or {METRICS} in a folder, a CSV export of W&B, or a storage of "
        "Optuna"
    )
    if kind is None and Path(path).is_dir() and is_trial_store(Path(path)):
        raise ValueError(
            f"Expected past runs of other programs, got the trial store {path}, which is read as "
            f"it is: curves={path} or prior_curves={path}"
        )
    if kind is None:
        raise ValueError(f"Expected past runs at {path}, found none of {wanted}")
    runs = READERS[kind](path if "://" in str(path) else Path(path))  # type: ignore[arg-type]
    if not runs:
        raise ValueError(f"Expected past runs at {path}, found none of source={kind}: {wanted}")
    return sorted(runs, key=lambda run: run.name)
