"""Calibration of a predictor's intervals and probabilities, on recorded curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.task import Task
from lensllm.evaluation.benchmark import Benchmark
from lensllm.predictors.draws import LossDraws, Predictor

LEVELS = (0.5, 0.8, 0.95)
P = TypeVar("P", bound=Predictor)


@dataclass(frozen=True, eq=False)
class Question(Generic[P]):
    """One cell of a benchmark.

    Attributes:
        task: The task, with the curves of the other data sets as `prior_curves`.
        curves: The points with D ≤ D_full / ratio.
        truth: True loss at D_full by candidate.
        ratio: D_full / D_max.
        predictor: The predictor.
    """

    task: Task
    curves: pd.DataFrame
    truth: dict[str, float]
    ratio: int
    predictor: P


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found.

    Attributes:
        candidates: One row per cell and candidate: `dataset`, `seed`, `n_samples_full`,
            `budget_ratio`, `model`, `log_loss` (the truth), `median`, `p_best`, `is_best`, and
            `lower<level>`, `upper<level>` in percent, all in log loss.
    """

    candidates: pd.DataFrame

    def coverage(self, level: float) -> pd.Series:
        """Whether each true loss lies in its interval."""
        table, name = self.candidates, f"{100 * level:g}"
        inside = table["log_loss"].between(table[f"lower{name}"], table[f"upper{name}"])
        return inside.rename(f"coverage{name}")

    def interval_score(self, level: float) -> pd.Series:
        """Winkler's interval score of log loss (Gneiting and Raftery 2007, eq. 43)."""
        table, name = self.candidates, f"{100 * level:g}"
        low, high, truth = table[f"lower{name}"], table[f"upper{name}"], table["log_loss"]
        missed = (low - truth).clip(lower=0) + (truth - high).clip(lower=0)
        return (high - low + 2.0 / (1.0 - level) * missed).rename(f"interval_score{name}")


def calibrate(
    benchmark: Benchmark,
    predictor: Predictor,
    budget_ratios: Sequence[int],
    datasets: Sequence[str] | None = None,
    targets: Sequence[int | None] = (None,),
    n_draws: int = 2000,
    min_sizes: int = 3,
    relative: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Ask a predictor for the losses at D_full, given every D ≤ D_full / ratio.

    Args:
        benchmark: The recorded curves.
        predictor: The predictor; the task has the curves of the other data sets.
        budget_ratios: D_full / D_max.
        datasets: Which data sets; all by default.
        targets: Sizes D_full; `None` for the benchmark's own.
        n_draws: Number of draws per cell.
        min_sizes: Cells with fewer sizes are passed over.
        relative: Whether to subtract the mean log loss over the candidates: a choice rests on the
            differences alone.
        progress: Called with the name of every data set before it is run.

    Returns:
        Intervals, probabilities and truths.
    """
    rows: list[dict[str, Any]] = []
    for question in questions(benchmark, predictor, budget_ratios, datasets, targets, min_sizes):
        if progress is not None:
            progress(f"{question.task.dataset} D/{question.ratio}")
        task = question.task
        draws = question.predictor.draws(
            task, question.curves, [task.n_samples_full], n_draws=n_draws, seed=0
        )
        keys = {
            "dataset": task.dataset,
            "seed": task.seed,
            "n_samples_full": task.n_samples_full,
            "budget_ratio": question.ratio,
        }
        rows += [{**keys, **row} for row in _candidate_rows(draws, question.truth, relative)]
    return Calibration(pd.DataFrame.from_records(rows))


def questions(
    benchmark: Benchmark,
    predictor: P,
    budget_ratios: Sequence[int],
    datasets: Sequence[str] | None = None,
    targets: Sequence[int | None] = (None,),
    min_sizes: int = 3,
) -> Iterator[Question[P]]:
    """The cells that `calibrate` asks.

    Args:
        benchmark: See `calibrate`, as for the others.
        predictor: The predictor.
        budget_ratios: D_full / D_max.
        datasets: Which data sets.
        targets: Sizes D_full.
        min_sizes: Cells with fewer sizes are passed over.

    Yields:
        One cell per D_full, data set, seed and ratio.
    """
    for target in targets:
        aimed = replace(benchmark, n_samples_full=target) if target else benchmark
        for dataset in datasets or benchmark.datasets:
            prior = PriorCurves(benchmark.curves[benchmark.curves["dataset"] != dataset])
            for seed in aimed.seeds(dataset):
                runner = aimed.runner(dataset, seed)
                task, truth = replace(runner.task(), prior_curves=prior), runner.truth()
                for ratio in budget_ratios:
                    largest = task.n_samples_full // ratio
                    if sum(0 < n <= largest for n in task.sizes) >= min_sizes:
                        seen = runner.curves[runner.curves["n_samples"] <= largest]
                        yield Question(task, seen, truth, ratio, predictor)


def _candidate_rows(
    draws: LossDraws, truth: dict[str, float], relative: bool
) -> list[dict[str, Any]]:
    """Intervals of a measured loss, and probabilities, for the candidates of one cell."""
    log_loss = draws.log_loss[:, :, -1]
    best = np.bincount(log_loss.argmin(axis=1), minlength=len(draws.models)) / len(log_loss)
    rng = np.random.default_rng(0)
    measured = log_loss + draws.noise * rng.standard_normal(log_loss.shape)
    actual = np.log([truth[model] for model in draws.models])
    if relative:
        measured = measured - measured.mean(axis=1, keepdims=True)
        actual = actual - actual.mean()
    columns = {
        "model": draws.models,
        "log_loss": actual,
        "median": np.median(measured, axis=0),
        "p_best": best,
        "is_best": actual == actual.min(),
    }
    for level in LEVELS:
        low, high = np.quantile(measured, (0.5 - level / 2, 0.5 + level / 2), axis=0)
        columns[f"lower{100 * level:g}"], columns[f"upper{100 * level:g}"] = low, high
    return pd.DataFrame(columns).to_dict("records")
