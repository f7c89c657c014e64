"""Curves from the usable runs, and why other runs were left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lensllm.core.past_runs.take import Taken

logger = logging.getLogger(__name__)

SAME = 0.01  # relative change of a loss that batch size and precision can cause in an evaluation
SHOWN = 5  # runs that a remark names
_CURVE = ["model", "dataset", "seed"]
_POINT = [*_CURVE, "n_samples"]
_OPTIONAL = ("test_loss_per_byte", "flops", "seconds", "n_params", "family")


def remarks(taken: Sequence[Taken]) -> list[str]:
    """Why runs were left out, and remarks about the others, each only once."""
    runs: dict[str, list[str]] = {}
    for item in taken:
        for text in [f"left out: {item.problem}"] if item.problem else item.notes:
            runs.setdefault(text, []).append(item.run.name)
    return [
        f"{_shown(names)}: {text}" + (f" ({len(names)} runs)" if len(names) > 1 else "")
        for text, names in runs.items()
    ]


def _shown(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*names[:SHOWN], *more])


def curves_of(taken: Sequence[Taken], source: str = "the runs") -> pd.DataFrame:
    """One row per usable run, and one for its model before training.

    Args:
        taken: The result of `take`.
        source: What to call the runs in an error message.

    Returns:
        A tidy table of curves (see `lensllm.core.curves`), with those of `_OPTIONAL` that some run
        records, and the run's name as `run`.

    Raises:
        ValueError: No run is usable, or two runs are the same point.
    """
    usable = [item for item in taken if not item.problem]
    if not usable:
        reasons = remarks(taken)
        raise ValueError(
            f"Expected runs that tell model, data set, D and loss in {source}, got none: "
            f"{'; '.join([*reasons[:3], *(['...'] if len(reasons) > 3 else [])])}"
        )
    table = pd.DataFrame([_row(item) for item in usable])
    twice = table[table.duplicated(_POINT, keep=False)].sort_values(_POINT, kind="stable")
    if len(twice):
        first, second = twice.iloc[0], twice.iloc[1]
        files = " and ".join(str(usable[i].run.path) for i in twice.index[:2])
        raise ValueError(
            f"Expected one run per model, data set, D and seed in {source}, got {first['run']!r} "
            f"and {second['run']!r} for {first['model']!r} on {first['dataset']!r} at n_samples = "
            f"{first['n_samples']} with seed {first['seed']}, their losses "
            f"{first['test_loss']:.10g} and {second['test_loss']:.10g} (files {files}): tell them "
            "apart with seed_from=COLUMN_OR_PATTERN or model_from=..., or leave one out"
        )
    measured = table.loc[table["n_samples"] == 0, _CURVE].itertuples(index=False, name=None)
    rows = [*map(_row, usable), *_untrained(usable, set(measured))]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _row(item: Taken) -> dict[str, Any]:
    names = (*_POINT, "test_loss", *_OPTIONAL)
    return {**{name: item.found[name] for name in names}, "run": item.run.name}


def _untrained(usable: Sequence[Taken], known: set[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The points D = 0 that are not known yet, each from the first run of its curve."""
    points: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in usable:
        loss = item.found["untrained_loss"]
        key = tuple(item.found[name] for name in _CURVE)
        if key in known or not (math.isfinite(loss) and loss > 0):
            continue
        # The Trainer counts only the FLOPs of training, of which there was none.
        unknown = dict.fromkeys(("seconds", "test_loss_per_byte"), math.nan)
        spent = {"flops": 0.0 * item.found["flops"], **unknown}
        point = {**_row(item), "n_samples": 0, "test_loss": loss, **spent}
        first = points.setdefault(key, point)["test_loss"]
        if abs(loss - first) > SAME * first:
            logger.warning(
                "Loss of %s on %s before training is %.4g in one run and %.4g in %s: are these "
                "different evaluation sets? Then the losses cannot be compared.",
                *(key[0], key[1], first, loss, item.run.name),
            )
    return list(points.values())
