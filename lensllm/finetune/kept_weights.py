"""The weights of trials, kept as model folders within a bound on disk."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lensllm.core.trials import Trial
from lensllm.finetune.adapters import FULL
from lensllm.finetune.model_folder import write_model_folder
from lensllm.finetune.models import ModelSource
from lensllm.system.atomic import StorageError

logger = logging.getLogger(__name__)

ALL = "all"
# Share of the free disk space that one more model may take.
MOST_OF_FREE = 0.9


@dataclass(frozen=True)
class KeptWeights:
    """Where and whether trials leave their weights.

    Weights do not enter a trial's key: a trial is the same with and without them.

    Attributes:
        folder: Folder of the model folders, see `path`.
        keep: Whether to keep weights; `all` also runs finished trials again that have none.
        max_gb: Most gigabytes (10⁹ bytes) that they may take together; `None` for no limit but the
            free space of the disk.

    Raises:
        ValueError: `keep` is something else, or `max_gb` is not above 0.
    """

    folder: Path
    keep: bool | str = False
    max_gb: float | None = None

    def __post_init__(self) -> None:
        if self.keep not in (False, True, ALL):
            raise ValueError(f"Expected keep_weights among false, true, all, got {self.keep!r}")
        if self.max_gb is not None and not self.max_gb > 0:
            raise ValueError(f"Expected max_weights_gb > 0, got {self.max_gb}")

    @property
    def keeps(self) -> bool:
        """Whether trials leave their weights."""
        return bool(self.keep)

    def path(self, trial: Trial) -> Path:
        """The model folder of a trial with all its settings, such as `gpt2-D400-s0-KEY`."""
        model = re.sub(r"[^\w.+=-]", "_", trial.model)
        return self.folder / f"{model}-D{trial.n_samples}-s{trial.seed}-{trial.key}"

    def lacks(self, trial: Trial) -> bool:
        """Whether a trial, finished or not, has to run for its weights."""
        return self.keep == ALL and trial.n_samples > 0 and not self.path(trial).is_dir()

    def write(self, trial: Trial, source: ModelSource, model: Any, tokenizer: Any) -> None:
        """Write the model folder of a trial, or say why not: its result is not lost by it.

        Nothing is written at D = 0, where the weights are those of the pre-trained model.
        """
        if trial.n_samples == 0 or self.path(trial).is_dir():
            return
        refusal = self._refusal(source)
        try:
            if not refusal:
                write_model_folder(self.path(trial), model, tokenizer, source)
        except StorageError as error:
            refusal = str(error)
        if refusal:
            logger.warning(
                "The weights of %s at D = %d are not kept: %s",
                trial.model,
                trial.n_samples,
                refusal,
            )

    def _refusal(self, source: ModelSource) -> str:
        """Why there is no room for the weights of a candidate; empty if there is."""
        needed = needed_bytes(source)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = MOST_OF_FREE * shutil.disk_usage(self.folder).free
        if needed > free:
            return (
                f"they take {needed / 1e9:.2g} GB, and {self.folder} has {free / 1e9:.2g} GB left"
            )
        if self.max_gb is None:
            return ""
        used = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        if used + needed <= 1e9 * self.max_gb:
            return ""
        return (
            f"they take {needed / 1e9:.2g} GB beside {used / 1e9:.2g} GB, more than "
            f"max_weights_gb={self.max_gb:g}"
        )


def needed_bytes(source: ModelSource) -> float:
    """Bytes of a candidate's weights on disk: of all of them, or of its adapters in float32."""
    if (source.finetune or FULL).is_full:
        return float(source.n_params * torch.finfo(getattr(torch, source.dtype)).bits // 8)
    return 4.0 * source.n_trainable
