"""One run of an experiment tracker a trial: W&B or CSV."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, WandbLogger

from lensllm.harmless import redact, safe_name
from lensllm.trials import TrialResult

_SUMMARY = (
    "test_loss",
    "test_loss_per_byte",
    "validation_loss",
    "n_params",
    "n_tokens",
    "flops",
    "seconds",
    "peak_memory_bytes",
)


def result_metrics(result: TrialResult) -> dict[str, float]:
    """The numbers of a result that go on a run's summary."""
    return {f"result/{name}": float(getattr(result, name)) for name in _SUMMARY}


class WandbTrialLogger(WandbLogger):
    """A W&B run for one trial: its config, its metrics as they come, its result.

    Args:
        label: Name of the run.
        config: The trial, recorded as the run's config.
        project: W&B project.
        mode: `online`, `offline` or `disabled`, as W&B has it.
        group: Group of runs that this one belongs to.
        save_dir: Folder in which W&B makes its own.
        tags: Tags of the run.

    Raises:
        ValueError: The mode is unknown.
    """

    def __init__(
        self,
        label: str,
        config: Mapping[str, Any],
        *,
        project: str = "lensllm",
        mode: str = "offline",
        group: str | None = None,
        save_dir: str | Path = "outputs",
        tags: tuple[str, ...] | list[str] = (),
    ) -> None:
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"Expected logger.mode online, offline or disabled, got {mode!r}")
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        if mode != "online":
            # W&B looks its servers up even offline, unless told not to report errors.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            os.environ.setdefault("WANDB_SILENT", "true")
        super().__init__(
            name=label,
            project=project,
            save_dir=save_dir,
            group=group,
            mode=mode,
            config=redact(dict(config)),
            tags=list(tags),
            reinit="finish_previous",
        )
        self._wandb_init.pop("anonymous", None)  # Lightning sets it, W&B warns of it

    def log_result(self, result: TrialResult) -> None:
        """Put the result on the run's summary."""
        self.experiment.summary.update({**result_metrics(result), "status": result.status})

    def finish(self) -> None:
        """Close the run."""
        self.experiment.finish()


class CSVTrialLogger(CSVLogger):
    """A folder with `metrics.csv` and `hparams.yaml` for one trial.

    Args:
        label: Name of the run, and by `safe_name` of its folder.
        config: The trial, recorded as the run's hyper-parameters.
        group: Folder of runs that this one belongs to, likewise.
        save_dir: Folder of all groups.
    """

    def __init__(
        self,
        label: str,
        config: Mapping[str, Any],
        *,
        group: str | None = None,
        save_dir: str | Path = "outputs",
    ) -> None:
        folder = safe_name(group or "runs")
        super().__init__(save_dir=save_dir, name=folder, version=safe_name(label))
        self.log_hyperparams(redact(dict(config)))

    def log_result(self, result: TrialResult) -> None:
        """Write the result as the last row of the metrics."""
        self.log_metrics(result_metrics(result), step=result.n_steps)
        self.save()

    def finish(self) -> None:
        """Write what is buffered."""
        self.finalize(status="success")
