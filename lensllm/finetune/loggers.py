"""One run of an experiment tracker per trial: W&B or CSV."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import _DummyExperiment
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from lensllm.core.trials import TrialResult
from lensllm.system.harmless import redact, safe_name

logger = logging.getLogger(__name__)

INIT_SECONDS = 10.0  # for W&B to begin a run; it takes up to ten more to report a failure
FINISH_SECONDS = 300.0  # for it to upload what is left

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

    A server that does not answer is an error when the first run of a process begins. Later it is
    reported once, and the trial continues without its tracker.

    Args:
        label: Name of the run.
        config: The trial, recorded as the run's config.
        project: W&B project.
        mode: `online`, `offline` or `disabled`, as in W&B.
        group: Group of runs that this one belongs to.
        save_dir: Folder in which W&B makes its own.
        tags: Tags of the run.

    Raises:
        ValueError: The mode is unknown, or W&B cannot begin the first run of the process.
    """

    _has_begun = False  # a run of this process
    _failed = False

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
        import wandb

        super().__init__(
            name=label,
            project=project,
            save_dir=save_dir,
            group=group,
            mode=mode,
            config=redact(dict(config)),
            tags=list(tags),
            reinit="finish_previous",
            settings=wandb.Settings(
                init_timeout=INIT_SECONDS, login_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
        self._wandb_init.pop("anonymous", None)  # Lightning sets it, W&B warns of it
        # A worker may start in the middle of a campaign; its first run then counts as a later one.
        is_first = not WandbTrialLogger._has_begun and multiprocessing.parent_process() is None
        if mode == "online" and is_first:
            try:
                _ = super().experiment
            except Exception as error:
                waited = INIT_SECONDS + 10
                raise ValueError(
                    f"Expected an answer of W&B within {waited:g} s for logger.mode=online, "
                    f"got: {error}; check the network and `wandb login`, or take "
                    "logger.mode=offline (and `wandb sync` later) or logger=none"
                ) from error
        WandbTrialLogger._has_begun = True

    @property
    def experiment(self) -> Any:
        """The run of W&B, or a stand-in that ignores everything once W&B has failed."""
        if not self._failed:
            try:
                return super().experiment
            except Exception as error:
                self._give_up(error)
        return _DummyExperiment()

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        logger.warning("The trial continues without W&B: %s: %s", type(error).__name__, error)

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something that may fail without harm to the trial."""
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._give_up(error)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers of a step."""
        self._attempt(lambda: super(WandbTrialLogger, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: Any) -> None:
        """Record settings."""
        self._attempt(lambda: super(WandbTrialLogger, self).log_hyperparams(redact(params)))

    def log_image(self, key: str, images: list[Any], step: int | None = None, **more: Any) -> None:
        """Record pictures."""
        self._attempt(lambda: super(WandbTrialLogger, self).log_image(key, images, step, **more))

    def log_result(self, result: TrialResult) -> None:
        """Put the result on the run's summary."""
        summary = {**result_metrics(result), "status": result.status}
        self._attempt(lambda: self.experiment.summary.update(summary))

    def finalize(self, status: str) -> None:
        """What Lightning calls when training ends."""
        self._attempt(lambda: super(WandbTrialLogger, self).finalize(status))

    def finish(self) -> None:
        """Close the run."""
        self._attempt(lambda: self.experiment.finish())


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
