"""What a tracker is told of a trial when its run begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lensllm.core.trials import Trial
from lensllm.finetune.adapters import FULL
from lensllm.finetune.models import ModelSource


def trial_label(trial: Trial) -> str:
    """Name of a trial's run."""
    return f"{trial.model}-D{trial.n_samples}-s{trial.seed}"


def trial_config(trial: Trial, source: ModelSource, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial's run is told beforehand: the trial, the model's origin, the sizes of the data.

    Args:
        trial: The trial, with all of its settings.
        source: Its candidate.
        data: Summary of the data set.
    """
    return {
        **asdict(trial),
        "source": source.source,
        "revision": source.commit or source.revision,
        "method": (source.finetune or FULL).method,
        "family": source.family,
        "n_params": source.n_params,
        "n_params_trained": source.n_trainable,
        "data": dict(data),
    }


def trial_tags(trial: Trial, source: ModelSource) -> tuple[str, ...]:
    """Tags of a trial's run: the model's family, the data set, the method of fine-tuning."""
    return source.family, trial.dataset, (source.finetune or FULL).method
