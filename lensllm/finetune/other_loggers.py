"""Runs of TensorBoard and of MLflow, each of which is an extra of lensllm."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from lensllm.finetune.run_logger import RunLogger
from lensllm.system.harmless import redact, safe_name


class TensorBoardTrialLogger(RunLogger, TensorBoardLogger):
    """A folder that TensorBoard shows, for one run.

    Args:
        label: Name of the run, and by `safe_name` of its folder.
        config: The run's settings.
        job_type: Kind of the run, recorded among the settings.
        run_tags: Tags of the run, likewise.
        group: Folder of runs that this one belongs to, by `safe_name`.
        save_dir: Folder of all groups, for `tensorboard --logdir`.
    """

    tracker = "TensorBoard"

    def __init__(
        self,
        label: str,
        config: Mapping[str, Any],
        *,
        job_type: str = "trial",
        run_tags: Sequence[str] = (),
        group: str | None = None,
        save_dir: str | Path = "outputs",
    ) -> None:
        import tensorboard  # noqa: F401  (its absence is told with the extra to install)

        folder = safe_name(group or "runs")
        super().__init__(save_dir, name=folder, version=safe_name(label), default_hp_metric=False)
        self.log_hyperparams({**config, "job_type": job_type, "tags": ", ".join(run_tags)})

    def finalize(self, status: str) -> None:
        """Write what is buffered, after each of Lightning's loops.

        A writer that is closed begins another file at the next number.
        """
        self.save()

    def finish(self, succeeded: bool = True) -> None:
        """Close the run."""
        super().finalize("success" if succeeded else "failed")

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Record a table as text."""
        text = "\n".join(f"    {line}" for line in table.to_string(index=False).splitlines())
        self._attempt(lambda: self.experiment.add_text(name, redact(text)))

    def log_picture(self, name: str, path: Path) -> None:
        """Record a picture."""
        from matplotlib.image import imread

        self._attempt(
            lambda: self.experiment.add_image(name, imread(path)[..., :3], dataformats="HWC")
        )


class MLflowTrialLogger(RunLogger, MLFlowLogger):
    """A run of MLflow.

    Args:
        label: Name of the run.
        config: Its parameters.
        job_type: Kind of the run, a tag.
        run_tags: Further tags.
        experiment: Name of the experiment.
        tracking_uri: Where MLflow keeps runs: a local data base (`sqlite:///FILE`) or a server.
        group: Group of runs that this one belongs to, a tag.
        artifact_dir: Folder of files, for a new experiment in a local data base.
    """

    tracker = "MLflow"

    def __init__(
        self,
        label: str,
        config: Mapping[str, Any],
        *,
        job_type: str = "trial",
        run_tags: Sequence[str] = (),
        experiment: str = "lensllm",
        tracking_uri: str = "sqlite:///outputs/mlflow.db",
        group: str | None = None,
        artifact_dir: str | Path | None = None,
    ) -> None:
        import mlflow  # noqa: F401  (its absence is told with the extra to install)

        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven take minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(
            experiment_name=experiment,
            run_name=label,
            tracking_uri=tracking_uri,
            tags={"job_type": job_type, "group": group or "", **dict.fromkeys(run_tags, "true")},
            artifact_location=None
            if artifact_dir is None
            else Path(artifact_dir).resolve().as_uri(),
        )
        self.log_hyperparams(dict(config))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers of a step; MLflow takes no others than finite ones."""
        super().log_metrics({k: v for k, v in metrics.items() if math.isfinite(v)}, step)

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Record a table as a CSV file."""
        text = table.to_csv(index=False)
        self._attempt(lambda: self.experiment.log_text(self.run_id, redact(text), f"{name}.csv"))

    def log_picture(self, name: str, path: Path) -> None:
        """Record a picture as a file."""
        self.log_files(name, "picture", [path])

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Record files."""

        def log() -> None:
            for path in paths:
                self.experiment.log_artifact(self.run_id, str(path))

        self._attempt(log)
