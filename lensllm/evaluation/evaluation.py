"""Every selector on every data set and budget, by replay, against the recorded truth."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.metrics.functional import (
    interval_coverage,
    interval_width,
    log_rmse,
    regret,
    relative_accuracy,
    top_k_hit,
)
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import Decision, Selector, run_campaign

logger = logging.getLogger(__name__)

# D_full / D_max of the papers' tables, and shares of the FLOPs of full fine-tuning.
BUDGET_RATIOS = (8, 16, 32, 64, 128, 256, 512)
BUDGET_FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)

_KEYS = ["dataset", "selector", "n_samples_full", "max_n_samples", "seed"]
SCORE_COLUMNS = [
    *_KEYS,
    *("pearson", "spearman", "relative_accuracy", "regret", "top3_hit", "log_rmse", "coverage80"),
    *("cost_fraction", "kendall", "width80", "protocol", "budget_ratio", "budget_fraction"),
    *("selected", "status", "n_candidates", "n_trials"),
]
PREDICTION_COLUMNS = [
    *("dataset", "selector", "max_n_samples", "n_samples_full", "seed", "model"),
    *("predicted_loss", "lower80", "upper80", "true_loss", "score", "p_best", "status"),
    *("protocol", "budget_ratio", "budget_fraction"),
]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: One row a cell (data set, seed, budget, selector), with `SCORE_COLUMNS`. Fractions,
            not percent; losses in the unit of the benchmark's measure. Undefined values are `nan`.
        predictions: One row a cell and candidate, with `PREDICTION_COLUMNS`.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Cell:
    """One question with one budget.

    Attributes:
        runner: Replays the data set.
        protocol: `papers` (every D ≤ D_max may be had) or `flops` (a budget of FLOPs).
        budget: Makes the budget, since a campaign charges it in place.
        ratio: D_full / D_max in the papers' protocol, else `nan`.
        fraction: Budget as a share of full fine-tuning in the FLOPs' protocol, else `nan`.
    """

    runner: ReplayRunner
    protocol: str
    budget: Callable[[], Budget]
    ratio: float = math.nan
    fraction: float = math.nan


class _Remembering(Selector):
    """A selector that ranks by one set of points of one data set and seed only once."""

    def __init__(self, inner: Selector) -> None:
        self.inner = inner
        self.rankings: dict[Hashable, Selection] = {}

    @property
    def name(self) -> str:
        return self.inner.name

    def preparation_cost(self, task: Task) -> float:
        return self.inner.preparation_cost(task)

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        return self.inner.ask(task, curves, budget)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        points = tuple(zip(curves["model"], curves["n_samples"], strict=True))
        key = (task.dataset, task.seed, task.names, points)
        if key not in self.rankings:
            self.rankings[key] = self.inner.rank(task, curves)
        return self.rankings[key]


def evaluate(
    benchmark: Benchmark,
    selectors: Sequence[Selector],
    budget_ratios: Sequence[int] = BUDGET_RATIOS,
    budget_fractions: Sequence[float] = (),
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Judge selectors on a recorded benchmark.

    Selectors have the curves of the other data sets as those of earlier tasks.

    Args:
        benchmark: The benchmark.
        selectors: The selectors; their names must differ.
        budget_ratios: D_full / D_max, for the papers' protocol: every D ≤ D_max may be had, and
            what a selector asks for is its cost. Ratios that leave no size are passed over.
        budget_fractions: FLOPs that may be spent, as shares of fine-tuning every candidate on
            D_full, for the protocol where the selector decides what to spend them on.
        datasets: Which data sets; all by default.
        seeds: Which seeds; all that have losses at D_full by default.
        progress: Called with the name of every cell before it is run.

    Returns:
        Scores and predictions, in the order of data sets, seeds, budgets and selectors.

    Raises:
        ValueError: A name is unknown or stands there twice, or a budget is out of range.
    """
    names = [selector.name for selector in selectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Expected selectors with different names, got {names}")
    unknown = sorted(set(datasets or ()) - set(benchmark.datasets))
    if unknown:
        listed = ", ".join(benchmark.datasets)
        raise ValueError(f"Expected `datasets` among {listed}, got {unknown[0]!r}")
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for dataset in benchmark.datasets if datasets is None else datasets:
        prior = PriorCurves(benchmark.curves[benchmark.curves["dataset"] != dataset])
        remembering = [_Remembering(item) for item in selectors]
        for seed in _seeds(benchmark, dataset, seeds):
            runner = benchmark.runner(dataset, seed)
            _warn_if_undefined(runner)
            for cell in _cells(runner, budget_ratios, budget_fractions):
                for selector in remembering:
                    if progress is not None:
                        progress(f"{dataset} seed {seed} {_label(cell)} {selector.name}")
                    row, lines = _judge(selector, cell, prior)
                    scores.append(row)
                    predictions += lines
    return Evaluation(_table(scores, SCORE_COLUMNS), _table(predictions, PREDICTION_COLUMNS))


def _warn_if_undefined(runner: ReplayRunner) -> None:
    """Say on which data set there is nothing to choose."""
    truth = runner.truth()
    if len(set(truth.values())) < 2:
        logger.warning(
            "Nothing to choose on %s (seed %d), so relative accuracy and correlations are "
            "undefined: %d candidate(s) with one true loss",
            runner.dataset,
            runner.seed,
            len(truth),
        )


def _table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Rows as a table; D_max is whole, and absent where FLOPs are the budget."""
    return pd.DataFrame.from_records(rows, columns=columns).astype({"max_n_samples": "Int64"})


def expected_random(truth: Sequence[float]) -> dict[str, float]:
    """Exact expectation of the metrics of a uniformly random choice.

    Args:
        truth: True losses of the candidates, all finite.

    Returns:
        `relative_accuracy`, `regret` and `top3_hit`; the first is `nan` where all are equal.
    """
    losses = np.sort(np.asarray(truth, dtype=float))
    spread = losses[-1] - losses[0]
    return {
        "relative_accuracy": float((losses[-1] - losses).mean() / spread) if spread else math.nan,
        "regret": float((losses - losses[0]).mean()),
        "top3_hit": float((losses <= losses[min(2, len(losses) - 1)]).mean()),
    }


def _seeds(benchmark: Benchmark, dataset: str, seeds: Sequence[int] | None) -> Sequence[int]:
    """The seeds to evaluate on one data set; says which are left out."""
    known = benchmark.seeds(dataset)
    listed = ", ".join(map(str, known))
    every = benchmark.curves.loc[benchmark.curves["dataset"] == dataset, "seed"]
    without = sorted(set(every) - set(known))
    if seeds is None and without:
        logger.warning(
            "Left out of %s, since no loss at n_samples = %d was recorded: seeds %s",
            dataset,
            benchmark.target(dataset),
            ", ".join(map(str, without)),
        )
    missing = sorted(set(seeds or ()) - set(known))
    if missing:
        raise ValueError(
            f"Expected seeds with losses at D_full, {listed}, on {dataset!r}, got {missing[0]}"
        )
    return known if seeds is None else seeds


def _cells(runner: ReplayRunner, ratios: Sequence[int], fractions: Sequence[float]) -> list[Cell]:
    """The budgets of one data set and seed."""
    task = runner.task()
    cells = []
    smallest = min((n for n in task.sizes if n > 0), default=math.inf)
    for ratio in ratios:
        if not ratio > 1:
            raise ValueError(f"Expected budget ratios D_full / D_max > 1, got {ratio}")
        largest = int(task.n_samples_full // ratio)
        if largest < smallest:
            logger.debug("%s has no size <= %d: ratio %s passed over", task.dataset, largest, ratio)
            continue
        cells.append(Cell(runner, "papers", _budget_of_size(largest), ratio=ratio))
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"Expected budget fractions in (0, 1], got {fraction:g}")
        flops = fraction * task.full_cost
        cells.append(Cell(runner, "flops", _budget_of_flops(flops), fraction=fraction))
    return cells


def _budget_of_size(n: int) -> Callable[[], Budget]:
    return lambda: Budget(max_n_samples=n)


def _budget_of_flops(flops: float) -> Callable[[], Budget]:
    return lambda: Budget(flops=flops)


def _label(cell: Cell) -> str:
    return f"D/{cell.ratio:g}" if cell.protocol == "papers" else f"{cell.fraction:.2%} of FLOPs"


def _judge(
    selector: _Remembering, cell: Cell, prior: PriorCurves
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run one selector on one cell: a row of scores, and rows of predictions."""
    task, budget = cell.runner.task(), cell.budget()
    keys = {
        "dataset": task.dataset,
        "selector": selector.name,
        "n_samples_full": task.n_samples_full,
        "max_n_samples": budget.max_n_samples,
        "seed": task.seed,
        "protocol": cell.protocol,
        "budget_ratio": cell.ratio,
        "budget_fraction": cell.fraction,
        "n_candidates": len(task.names),
    }
    try:
        selection, curves = run_campaign(selector, cell.runner, budget, prior_curves=prior)
    except BudgetTooSmallError as error:
        logger.debug("%s, %s, %s: %s", task.dataset, _label(cell), selector.name, error)
        return {**keys, "status": "budget too small"}, []
    truth = cell.runner.truth()
    row = {
        **keys,
        **selection_metrics(selection, truth, selector.inner.score_sign),
        "cost_fraction": selection.cost_fraction,
        "selected": selection.best.model if selection.best.status == "ranked" else "",
        "status": selection.best.status,
        "n_trials": len(curves),
    }
    del keys["n_candidates"]
    lines = [
        {
            **keys,
            "model": entry.model,
            "predicted_loss": entry.predicted_loss,
            "lower80": entry.lower80,
            "upper80": entry.upper80,
            "true_loss": truth[entry.model],
            "score": entry.score,
            "p_best": entry.p_best,
            "status": entry.status,
        }
        for entry in selection.ranking
    ]
    return row, lines


def selection_metrics(
    selection: Selection, truth: dict[str, float], score_sign: float = 1.0
) -> dict[str, float]:
    """All metrics of one selection.

    Args:
        selection: The selection.
        truth: True loss at D_full by candidate.
        score_sign: Sign by which scores are multiplied before they are correlated.

    Returns:
        The metrics by name; `nan` where undefined.
    """
    entries = {entry.model: entry for entry in selection.ranking}
    # In the order of the ranking, so that ties in score go to the one that was chosen.
    models = [model for model in entries if model in truth]

    def column(name: str) -> torch.Tensor:
        values = [float(getattr(entries[model], name)) for model in models]
        return torch.tensor(values, dtype=torch.float64)

    scores, predicted = column("score"), column("predicted_loss")
    low, high = column("lower80"), column("upper80")
    losses = torch.tensor([truth[model] for model in models], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = {
            "relative_accuracy": relative_accuracy(scores, losses),
            "regret": regret(scores, losses),
            "top3_hit": top_k_hit(scores, losses, 3),
            "log_rmse": log_rmse(predicted, losses),
            "coverage80": interval_coverage(low, high, losses),
            "width80": interval_width(low, high, losses),
        }
    return {
        **{name: float(value) for name, value in found.items()},
        **correlations(score_sign * scores.numpy(), losses.numpy()),
    }


def correlations(scores: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Pearson, Spearman and Kendall correlation over the candidates that have both values.

    Returns:
        The three by name; `nan` with fewer than two candidates, or where either side is constant.
    """
    used = np.isfinite(scores) & np.isfinite(losses)
    x, y = scores[used], losses[used]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(("pearson", "spearman", "kendall"), math.nan)
    return {
        "pearson": float(stats.pearsonr(x, y).statistic),
        "spearman": float(stats.spearmanr(x, y).statistic),
        "kendall": float(stats.kendalltau(x, y).statistic),
    }
