"""Replay: trials that are looked up in recorded curves."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from lensllm.core.curves import check_curves
from lensllm.core.measures import LOSS, LOSSES, Measure, measure_named
from lensllm.core.protocols import Runner
from lensllm.core.task import Candidate, Task
from lensllm.core.trials import MeasureValue, Trial, TrialResult

logger = logging.getLogger(__name__)


class ReplayRunner(Runner):
    """Looks trials up in a table of recorded curves of one data set.

    If the table has FLOPs for all points, a trial has the recorded cost. Otherwise it costs
    6 · parameters · D · `tokens_per_sample` · `n_epochs` FLOPs, D = 0 is free (the cost of the
    Rectified Scaling Law paper), and a model of unknown size is given the mean of the others.

    Args:
        curves: Tidy table of curves (see `lensllm.core.curves`).
        dataset: Name of the data set in the table.
        n_samples_full: Size D_full at which candidates are compared; the largest one by default.
        seed: Seed of the recorded runs; the smallest by default.
        tokens_per_sample: Source and target tokens per sample, used if no FLOPs were recorded.
        n_epochs: Passes over the data, used if no FLOPs were recorded.
        measure: The measure by which candidates are compared, see `measure_named`; one that is no
            loss has a column with its name.

    Raises:
        ValueError: The data set, seed, size or measure is not in the table.
    """

    def __init__(
        self,
        curves: pd.DataFrame,
        dataset: str,
        n_samples_full: int | None = None,
        seed: int | None = None,
        tokens_per_sample: float = 1.0,
        n_epochs: float = 1.0,
        measure: str | Mapping[str, Any] | Measure = "loss",
    ) -> None:
        self.measure = measure_named(measure)
        curves = check_curves(curves)
        known = sorted(curves["dataset"].unique())
        if dataset not in known:
            raise ValueError(f"Expected one of the data sets {', '.join(known)}, got {dataset!r}")
        rows = curves[curves["dataset"] == dataset]
        seed = int(rows["seed"].min()) if seed is None else seed
        if seed not in set(rows["seed"]):
            seeds = ", ".join(str(s) for s in sorted(rows["seed"].unique()))
            raise ValueError(f"Expected one of the seeds {seeds} for {dataset!r}, got {seed}")
        self.curves = rows[rows["seed"] == seed].reset_index(drop=True)
        self.measure.require(self.curves, f"the curves of {dataset!r}")
        self.dataset = dataset
        self.seed = seed
        sizes = sorted(self.curves["n_samples"].unique())
        self.n_samples_full = int(sizes[-1] if n_samples_full is None else n_samples_full)
        if self.n_samples_full not in sizes:
            raise ValueError(
                f"Expected `n_samples_full` among the recorded sizes {', '.join(map(str, sizes))} "
                f"of {dataset!r}, got {self.n_samples_full}"
            )
        self._sample_cost = 6.0 * tokens_per_sample * n_epochs
        columns = [m.column for m in LOSSES if m.column in self.curves]
        self._losses = {column: self._recorded(column) for column in columns}
        self._best_steps = self._recorded_steps()
        self._task = self._make_task()

    def _make_task(self) -> Task:
        params = {
            model: float(rows["n_params"].iloc[0]) if "n_params" in rows else math.nan
            for model, rows in self.curves.groupby("model", sort=False)
        }
        known = [value for value in params.values() if value > 0]
        mean = sum(known) / len(known) if known else 1.0
        families = (
            self.curves.groupby("model")["family"].first().to_dict()
            if "family" in self.curves
            else {}
        )
        candidates = tuple(
            Candidate(model, value, str(families.get(model, ""))) for model, value in params.items()
        )
        recorded = "flops" in self.curves and bool(self.curves["flops"].notna().all())
        if "flops" in self.curves and not recorded:
            logger.warning(
                "FLOPs of some points of %s were not recorded: all costs are counted from sizes",
                self.dataset,
            )
        available: dict[str, tuple[int, ...]] = {}
        costs: dict[tuple[str, int], float] = {}
        for model, rows in self.curves.groupby("model"):
            sizes = rows["n_samples"].astype(int)
            available[model] = tuple(sorted(n for n in sizes if n < self.n_samples_full))
            size = params[model] if params[model] > 0 else mean
            for n in {*sizes, self.n_samples_full}:
                costs[model, n] = self._sample_cost * size * n
            if recorded:
                costs.update(
                    {(model, int(n)): float(f) for n, f in zip(sizes, rows["flops"], strict=True)}
                )
        return Task(
            self.dataset,
            candidates,
            self.n_samples_full,
            available,
            costs,
            seed=self.seed,
            measure=self.measure,
        )

    def _recorded(self, column: str) -> dict[tuple[str, int], float]:
        """Losses by model and size."""
        pairs = zip(self.curves["model"], self.curves["n_samples"].astype(int), strict=True)
        return dict(zip(pairs, self.curves[column].astype(float), strict=True))

    def _recorded_steps(self) -> dict[tuple[str, int], int]:
        """Early-stopping steps by model and size, if the table has them."""
        if "best_step" not in self.curves:
            return {}
        rows = self.curves.dropna(subset=["best_step"])
        pairs = zip(rows["model"], rows["n_samples"].astype(int), strict=True)
        return dict(zip(pairs, rows["best_step"].astype(int).tolist(), strict=True))

    def task(self) -> Task:
        """The candidates, sizes and costs of the recorded data set."""
        return self._task

    def truth(self) -> dict[str, float]:
        """Recorded measure at D_full by model; `nan` if it was not recorded."""
        losses = self._recorded(self.measure.column)
        return {
            name: losses.get((name, self.n_samples_full), math.nan) for name in self._task.names
        }

    def run(self, trial: Trial) -> TrialResult:
        """Look the trial up.

        Raises:
            ValueError: The point was not recorded.
        """
        point = (trial.model, trial.n_samples)
        if point not in self._losses[LOSS.column]:
            raise ValueError(
                f"Expected a recorded point, got {trial.model!r} at n_samples = {trial.n_samples} "
                f"on {self.dataset!r}, which is not in the curves"
            )
        result = TrialResult(
            trial,
            "completed",
            self._losses[LOSS.column][point],
            flops=self._task.costs[point],
            best_step=self._best_steps.get(point, 0),
        )
        measured: dict[str, Any] = {
            column: losses[point] for column, losses in self._losses.items()
        }
        return replace(result, **measured, measures=self._measured(point))

    def _measured(self, point: tuple[str, int]) -> dict[str, MeasureValue]:
        """The recorded value of a measure that is no loss."""
        measure = self.measure
        if measure.is_loss:
            return {}
        names = (measure.column, measure.error_column, measure.count_column)
        value, error, count = (
            self._recorded(name)[point] if name in self.curves else math.nan for name in names
        )
        return {measure.name: MeasureValue(value, error, int(count) if count > 0 else 0)}
