"""From the trials of the zoo's sweep to the recorded curves that ship with the project."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lensllm.core.trials import TrialResult, canonical_json, results_table
from lensllm.system.atomic import write_whole

COLUMNS = [
    "model",
    "dataset",
    "n_samples",
    "seed",
    "test_loss",
    "test_loss_per_byte",
    "validation_loss",
    "n_params",
    "family",
    "n_tokens",
    "n_steps",
    "best_step",
    "flops",
    "train_flops",
    "seconds",
    "status",
]


_HEADER = "Learning curves of the zoo, measured by `lensllm train experiment=zoo_grid`."
_OWN = ("data", "weights", "config")
_POINT = ["dataset", "model", "seed", "n_samples"]


def provenance(results: Iterable[TrialResult]) -> dict[str, Any]:
    """What the trials share: settings, data fingerprints, weights, versions, and their dates.

    Raises:
        ValueError: There are no trials, or they were made with different training settings.
    """
    given = list(results)
    if not given:
        raise ValueError("Expected finished trials to record, got none")
    tuned = [result.trial.settings for result in given if result.trial.n_samples > 0]
    training = {
        canonical_json({name: value for name, value in item.items() if name not in _OWN})
        for item in tuned
    }
    if len(training) > 1:
        raise ValueError(
            f"Expected trials of one training recipe, got {len(training)}: {sorted(training)[:2]}"
        )
    dates = sorted(result.finished_at for result in given)
    return {
        "training": json.loads(training.pop()) if training else {},
        "data fingerprints": {r.trial.dataset: r.trial.settings["data"] for r in given},
        "weights": {r.trial.model: r.trial.settings["weights"] for r in given},
        "versions": dict(given[0].versions),
        "finished": [dates[0], dates[-1]],
    }


def read_recorded_curves(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Provenance and rows of a file that `write_recorded_curves` wrote.

    Raises:
        FileNotFoundError: There is no such file.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("# "), lines))
    notes = [line[2:].partition(": ") for line in head[1:]]
    names = {"model": str, "dataset": str}
    table = pd.read_csv(path, skiprows=len(head), dtype=names)
    return {name: json.loads(value) for name, _, value in notes}, table


def write_recorded_curves(
    results: Iterable[TrialResult], path: Path, *, extend: bool = False
) -> int:
    """Write a tidy CSV with the provenance as comment lines.

    Args:
        results: The trials.
        path: Where to write.
        extend: Whether to keep the rows that the file has already; a trial measured again takes
            the place of its row.

    Returns:
        The number of rows.

    Raises:
        ValueError: The trials were not made as the rows of the file were: other training, text,
            weights or versions.
    """
    given = list(results)
    notes, table = provenance(given), results_table(given)[COLUMNS]
    if extend:
        old_notes, old = read_recorded_curves(path)
        notes = _join(old_notes, notes)
        table = pd.concat([old, table]).drop_duplicates(_POINT, keep="last").sort_values(_POINT)
    comments = [_HEADER, *(f"{name}: {json.dumps(value)}" for name, value in notes.items())]
    text = table.to_csv(index=False, float_format="%.7g", lineterminator="\n")
    write_whole(path, "".join(f"# {line}\n" for line in comments) + text)
    return len(table)


def _join(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Joint provenance of rows that were recorded at two times."""
    for name in ("training", "versions"):
        if old[name] != new[name]:
            raise ValueError(
                f"Expected trials with the recorded {name}, {old[name]}, got {new[name]}"
            )
    joined = {name: {**old[name], **new[name]} for name in ("data fingerprints", "weights")}
    for name, values in joined.items():
        for key in old[name]:
            if values[key] != old[name][key]:
                raise ValueError(
                    f"Expected {key!r} with the recorded {name}, {old[name][key]}, "
                    f"got {values[key]}"
                )
    dates = sorted([*old["finished"], *new["finished"]])
    return {**old, **joined, "finished": [dates[0], dates[-1]]}
