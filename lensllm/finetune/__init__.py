"""Fine-tuning one candidate on one subset: a trial, for real."""

from lensllm.finetune.adapters import FineTuning
from lensllm.finetune.models import ModelSource
from lensllm.finetune.module import FineTuner, warmup_schedule
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.trial import run_trial

__all__ = [
    "FineTuner",
    "FineTuning",
    "ModelSource",
    "TrainingSettings",
    "run_trial",
    "warmup_schedule",
]
