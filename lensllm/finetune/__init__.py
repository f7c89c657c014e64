"""Runs a trial: fine-tunes one candidate on one subset and measures its test loss.

Names are imported on first use, so code that only inspects files does not need torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensllm.finetune.adapters import AdapterConfig
    from lensllm.finetune.measuring import MeasuringSettings
    from lensllm.finetune.models import ModelSource
    from lensllm.finetune.module import LanguageModelModule, warmup_schedule
    from lensllm.finetune.settings import TrainingSettings
    from lensllm.finetune.trial import run_trial

__all__ = [
    "LanguageModelModule",
    "AdapterConfig",
    "MeasuringSettings",
    "ModelSource",
    "TrainingSettings",
    "run_trial",
    "warmup_schedule",
]

_HOMES = {
    "LanguageModelModule": "module",
    "AdapterConfig": "adapters",
    "MeasuringSettings": "measuring",
    "ModelSource": "models",
    "TrainingSettings": "settings",
    "run_trial": "trial",
    "warmup_schedule": "module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
