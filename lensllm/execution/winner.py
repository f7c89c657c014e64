"""Fine-tune the candidate that a campaign chose on all the data, and save the model."""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensllm.core.measures import Measure, recorded_measure
from lensllm.core.task import NoCandidateError
from lensllm.core.trials import Trial, TrialResult
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune.model_folder import check_free
from lensllm.finetune.models import ModelSource
from lensllm.finetune.trial import reason_of
from lensllm.system.atomic import StorageError


@dataclass(frozen=True)
class Winner:
    """A model that was fine-tuned on all the data, with the campaign's prediction.

    Attributes:
        source: The candidate.
        folder: Its model folder.
        result: Result and cost of the full fine-tuning.
        measure: The measure by which candidates were compared.
        predicted: The predicted value at D_full; `nan` if there was none.
        lower80: Lower end of its 80 % interval; `nan` if there was none.
        upper80: Upper end of the same interval.
        others: Values of other contenders that were fine-tuned in full.
        failures: Contenders whose full fine-tuning did not complete, with the reason.
    """

    source: ModelSource
    folder: Path
    result: TrialResult
    measure: Measure
    predicted: float
    lower80: float
    upper80: float
    others: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The value that the full fine-tuning reached."""
        return self.result.value(self.measure)

    @property
    def held(self) -> bool | None:
        """Whether that value is inside the interval; `None` if there was no interval."""
        if not (math.isfinite(self.lower80) and math.isfinite(self.upper80)):
            return None
        return self.lower80 <= self.value <= self.upper80


def finetune_winner(
    runner: FineTuneRunner,
    record: Mapping[str, Any],
    folder: Path,
    model: str | None = None,
    confirm: int = 1,
    merge: bool = False,
) -> Winner:
    """Fine-tune the chosen candidate, or the best of several contenders, on D_full samples.

    The trial is the one that the campaign predicted: same recipe, seed and data. Its result goes
    into the store and is used from then on, also as part of an earlier task.

    Args:
        runner: A runner with the campaign's settings.
        record: See `lensllm.execution.selection_file.read_selection`.
        folder: A new or empty folder for the model.
        model: Name of the candidate; `None` for the chosen one.
        confirm: Number of contenders to fine-tune; the best one is kept.
        merge: Whether adapters are merged into the weights.

    Raises:
        ValueError: The data have changed, or the candidate is unknown.
        NoCandidateError: No trial completed; with all reasons.
        StorageError: The folder cannot be written.
    """
    check_free(folder)
    if runner.data.fingerprint != record["data_fingerprint"]:
        raise ValueError(
            f"Expected the data of the campaign, with the fingerprint "
            f"{record['data_fingerprint']}, got {runner.data.fingerprint}: {runner.data.name!r} "
            "has changed since; run `lensllm select` again"
        )
    ranking = {entry["model"]: entry for entry in record["ranking"]}
    names = [model] if model is not None else _contenders(record, confirm)
    unknown = next((name for name in names if name not in runner.sources), None)
    if unknown is not None:
        raise ValueError(f"Expected a candidate among {', '.join(ranking)}, got {unknown!r}")
    measure, seed = recorded_measure(record), int(record["settings"].get("seed", 0))
    n_samples = int(record["n_samples_full"])
    results: dict[str, TrialResult] = {}
    failures: dict[str, str] = {}
    kept = {name: folder.parent / f".writing-{uuid.uuid4().hex}" for name in names}
    try:
        for name in names:
            trial = Trial(name, runner.data.name, n_samples, seed)
            try:
                results[name] = runner.keep(trial, kept[name], merge)
            except StorageError:
                raise
            except Exception as error:  # the other contenders' models are not lost by it
                failures[name] = reason_of(error)
        values = {
            name: result.value(measure)
            for name, result in results.items()
            if result.status == "completed"
        }
        failures |= {name: "it diverged" for name in results if name not in values}
        if not values:
            raise NoCandidateError(runner.data.name, failures)
        best = measure.best_of(values)
        if folder.is_dir():
            folder.rmdir()
        kept[best].rename(folder)
    finally:
        for path in kept.values():
            shutil.rmtree(path, ignore_errors=True)
    entry = ranking.get(best, {})
    predicted, lower, upper = (
        math.nan if entry.get(key) is None else float(entry[key])
        for key in ("predicted_loss", "lower80", "upper80")
    )
    others = {name: value for name, value in values.items() if name != best}
    source = runner.sources[best]
    return Winner(source, folder, results[best], measure, predicted, lower, upper, others, failures)


def _contenders(record: Mapping[str, Any], count: int) -> list[str]:
    """The chosen candidate, the best arm of each other contender, the rest as they are ranked."""
    held = (record.get("verdict") or {}).get("contenders", [])
    ranked = [entry for entry in record["ranking"] if entry["status"] == "ranked"]
    if not ranked:
        raise ValueError("Expected a candidate that was ranked, got none: nothing was measured")
    firsts: dict[str, str] = {}
    for entry in ranked:
        firsts.setdefault(entry.get("base_model", entry["model"]), entry["model"])
    first = [firsts[model] for model in held if model in firsts]
    rest = [*firsts.values(), *(entry["model"] for entry in ranked)]
    return list(dict.fromkeys([record["selected"], *first, *rest]))[:count]
