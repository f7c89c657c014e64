"""Runs of W&B, and of CSV files."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from lensllm.core.measures import Direction
from lensllm.finetune.run_logger import RunLogger
from lensllm.system.harmless import redact, safe_name, write_csv

INIT_SECONDS = 10.0  # for W&B to begin a run; it takes up to ten more to report a failure
FINISH_SECONDS = 300.0  # for it to upload what is left
MAX_TAG = 64  # characters of a tag that W&B takes


class WandbTrialLogger(RunLogger, WandbLogger):
    """A run of W&B: its config, its metrics as they come, its result.

    A server that does not answer is an error when the first run of a process begins. The run is
    one of its own, also where the program has one in progress.

    Args:
        label: Name of the run.
        config: The run's config.
        job_type: Kind of the run, such as `trial` or `campaign`.
        run_tags: Tags of this run, beside `tags`.
        project: W&B project.
        mode: `online`, `offline` or `disabled`, as in W&B.
        group: Group of runs that this one belongs to.
        save_dir: Folder in which W&B makes its own.
        tags: Tags of all runs.

    Attributes:
        offline_folders: Folders of the offline runs that this process has begun.

    Raises:
        ValueError: The mode is unknown, or W&B cannot begin the first run of the process.
    """

    tracker = "W&B"
    offline_folders: ClassVar[list[Path]] = []
    _has_begun = False  # a run of this process
    _experiment: Any

    def __init__(
        self,
        label: str,
        config: Mapping[str, Any],
        *,
        job_type: str = "trial",
        run_tags: Sequence[str] = (),
        project: str = "lensllm",
        mode: str = "offline",
        group: str | None = None,
        save_dir: str | Path = "outputs",
        tags: Sequence[str] = (),
    ) -> None:
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(
                f"Expected logger.wandb.mode online, offline or disabled, got {mode!r}"
            )
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        if mode != "online":
            # W&B looks its servers up even offline, unless told not to report errors.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            os.environ.setdefault("WANDB_SILENT", "true")
            # Files wait beside their runs for `wandb sync`, not in the user's home.
            os.environ.setdefault("WANDB_DATA_DIR", str(Path(save_dir).resolve() / "wandb"))
        import wandb

        super().__init__(
            name=label,
            project=project,
            save_dir=save_dir,
            group=group,
            job_type=job_type,
            mode=mode,
            config=redact(dict(config)),
            tags=[redact(tag)[:MAX_TAG] for tag in dict.fromkeys([*tags, *run_tags]) if tag],
            reinit="create_new",  # a campaign's run is open while its trials have theirs
            settings=wandb.Settings(
                init_timeout=INIT_SECONDS, login_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
        self._wandb_init.pop("anonymous", None)  # Lightning sets it, W&B warns of it
        # A worker may start in the middle of a campaign; its first run then counts as a later one.
        is_first = not WandbTrialLogger._has_begun and multiprocessing.parent_process() is None
        if mode == "online" and is_first:
            try:
                self._begin()
            except Exception as error:
                waited = INIT_SECONDS + 10
                raise ValueError(
                    f"Expected an answer of W&B within {waited:g} s for logger.wandb.mode=online, "
                    f"got: {error}; check the network and `wandb login`, or take "
                    "logger.wandb.mode=offline (and `wandb sync` later) or logger=none"
                ) from error
        WandbTrialLogger._has_begun = True

    def _begin(self) -> Any:
        return self._run

    @property
    @rank_zero_experiment
    def _run(self) -> Any:
        if self._experiment is None:
            import wandb

            self._experiment = run = wandb.init(**self._wandb_init)
            run.define_metric("trainer/global_step")
            run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            for name in ("train_loss", "val_loss", "test_loss", "test_loss_per_byte"):
                self.keep_best(name, "lower")
            run.define_metric("cumulative_flops", summary="max")
            if run.offline:
                self.offline_folders.append(Path(run.settings.sync_dir))
        return self._experiment

    def log_summary(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Put what was found on the run's summary."""
        self._attempt(lambda: self.experiment.summary.update(redact(dict(values))))

    def keep_best(self, name: str, direction: Direction) -> None:
        """Let the summary have the smallest or largest value of a metric, not the last."""
        best = "min" if direction == "lower" else "max"
        step = "trainer/global_step"
        self._attempt(
            lambda: self.experiment.define_metric(
                name, step_metric=step, step_sync=True, summary=best
            )
        )

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Record a table as W&B's."""

        def log() -> None:
            import wandb

            columns, rows = list(table.columns), table.to_numpy(dtype=object).tolist()
            cells = [[_cell(value) for value in row] for row in rows]
            found = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
            self.experiment.log({name: found})

        self._attempt(log)

    def log_picture(self, name: str, path: Path) -> None:
        """Record a picture."""
        self._attempt(lambda: self.log_image(name, [str(path)]))

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Record files as one artifact."""

        def log() -> None:
            import wandb

            artifact = wandb.Artifact(safe_name(name), kind)
            for path in paths:
                artifact.add_file(str(path))
            self.experiment.log_artifact(artifact)

        self._attempt(log)

    def finish(self, succeeded: bool = True) -> None:
        """Close the run."""
        self._attempt(lambda: self.experiment.finish(exit_code=0 if succeeded else 1))


def _cell(value: Any) -> Any:
    """A cell of W&B's table: numbers that are not finite and absent values are empty."""
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return redact(value) if isinstance(value, str) else value


def sync_words() -> str:
    """How to upload the offline runs of W&B that this process has made; empty if there are none."""
    parents = dict.fromkeys(folder.parent for folder in WandbTrialLogger.offline_folders)
    commands = [f"wandb sync {parent}/offline-run-*" for parent in parents]
    return f"W&B recorded this offline; to upload it: {' '.join(commands)}" if commands else ""


class CSVTrialLogger(RunLogger, CSVLogger):
    """A folder with `metrics.csv` and `hparams.yaml` for one run.

    Args:
        label: Name of the run, and by `safe_name` of its folder.
        config: The run's settings.
        job_type: Kind of the run, recorded among the settings.
        run_tags: Tags of the run, likewise.
        group: Folder of runs that this one belongs to, by `safe_name`.
        save_dir: Folder of all groups.
    """

    tracker = "CSV files"

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
        folder = safe_name(group or "runs")
        super().__init__(save_dir=save_dir, name=folder, version=safe_name(label))
        self.log_hyperparams({**config, "job_type": job_type, "tags": list(run_tags)})

    def log_summary(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write what was found as the last row of the metrics."""
        super().log_summary(values, step)
        self.save()

    def log_frame(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as a file of its own."""
        path = Path(self.log_dir) / f"{safe_name(name)}.csv"
        self._attempt(lambda: write_csv(table, path))
