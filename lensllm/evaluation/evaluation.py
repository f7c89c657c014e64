"""Every selector on every data set and budget, by replay, against the recorded truth."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.cells import candidate_sets, cells_of, seeds_of
from lensllm.evaluation.judge import TOO_SMALL, judge
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import Decision, Selector
from lensllm.system.progress import Report

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
    *("candidate_set", "relative_regret", "p_best", "verdict", "held", "n_sizes"),
]
PREDICTION_COLUMNS = [
    *("dataset", "selector", "max_n_samples", "n_samples_full", "seed", "model"),
    *("predicted_loss", "lower80", "upper80", "true_loss", "score", "p_best", "status"),
    *("protocol", "budget_ratio", "budget_fraction", "candidate_set"),
]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: One row per cell (data set, seed, budget, selector), with `SCORE_COLUMNS`.
            Fractions, not percent; losses in the unit of the benchmark's measure. Undefined values
            are `nan`.
        predictions: One row per cell and candidate, with `PREDICTION_COLUMNS`.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame


class _Remembering(Selector):
    """A selector that caches its ranking by data set, seed and set of points."""

    def __init__(self, inner: Selector) -> None:
        self.inner = inner
        self.rankings: dict[Hashable, Selection] = {}

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def score_sign(self) -> float:  # type: ignore[override]
        return self.inner.score_sign

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
    selectors: Sequence[Selector] | Callable[[str], Sequence[Selector]],
    budget_ratios: Sequence[int] = BUDGET_RATIOS,
    budget_fractions: Sequence[float] = (),
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Report | None = None,
    set_sizes: Sequence[int | None] = (None,),
    n_sets: int = 1,
    set_seed: int = 0,
    earlier_tasks: bool = True,
) -> Evaluation:
    """Judge selectors on a recorded benchmark: replay every campaign, score it by true losses.

    Args:
        benchmark: The benchmark.
        selectors: The selectors; their names must differ. Or a function from the name of a data
            set to the selectors that are judged on it.
        budget_ratios: D_full / D_max, for the papers' protocol: every D ≤ D_max is available, and
            a selector's cost is that of what it asks for. Ratios that leave no size are skipped.
        budget_fractions: FLOPs that may be spent, as shares of fine-tuning every candidate on
            D_full, for the protocol where the selector decides what to spend them on.
        datasets: Which data sets; all by default.
        seeds: Which seeds; all that have losses at D_full by default.
        progress: Called before every cell is run, with its name and how many of the sets of
            candidates are done.
        set_sizes: Sizes of the sets of candidates; see `candidate_sets`.
        n_sets: Random sets of each size.
        set_seed: Seed of the sets.
        earlier_tasks: Whether campaigns are given the curves of the other data sets.

    Returns:
        Scores and predictions, in the order of data sets, seeds, sets, budgets and selectors.

    Raises:
        ValueError: A name is unknown or occurs twice, or a budget is out of range.
    """
    if not callable(selectors):
        _check_names(selectors)
    unknown = sorted(set(datasets or ()) - set(benchmark.datasets))
    if unknown:
        listed = ", ".join(benchmark.datasets)
        raise ValueError(f"Expected `datasets` among {listed}, got {unknown[0]!r}")
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    chosen = benchmark.datasets if datasets is None else datasets
    sets = {
        (dataset, seed): list(candidate_sets(benchmark, dataset, seed, set_sizes, n_sets, set_seed))
        for dataset in chosen
        for seed in seeds_of(benchmark, dataset, seeds)
    }
    done, total = 0, sum(map(len, sets.values()))
    for dataset in chosen:
        judged = selectors(dataset) if callable(selectors) else selectors
        _check_names(judged)
        judged = [_Remembering(item) for item in judged]
        others = benchmark.curves[benchmark.curves["dataset"] != dataset]
        prior = PriorCurves(others) if earlier_tasks else None
        for seed in seeds_of(benchmark, dataset, seeds):
            whole = benchmark.runner(dataset, seed)
            _warn_if_undefined(whole)
            _warn_if_no_ratio(whole.task(), budget_ratios)
            first = len(scores)
            for position, names in enumerate(sets[dataset, seed]):
                runner = benchmark.runner(dataset, seed, names)
                for cell in cells_of(runner, budget_ratios, budget_fractions, position):
                    keys = cell.keys()
                    for selector in judged:
                        if progress is not None:
                            label = f"{dataset} seed {seed} {cell.label} {selector.name}"
                            progress(label, done, total)
                        row, lines = judge(selector, runner, cell.budget(), runner.truth(), prior)
                        scores.append({**keys, **row})
                        predictions += [{**keys, **line} for line in lines]
                done += 1
            _warn_if_unanswered(whole.task(), scores[first:])
    return Evaluation(_table(scores, SCORE_COLUMNS), _table(predictions, PREDICTION_COLUMNS))


def _check_names(selectors: Sequence[Selector]) -> None:
    """Refuse selectors whose rows could not be told apart."""
    names = [selector.name for selector in selectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Expected selectors with different names, got {names}")


def _warn_if_undefined(runner: ReplayRunner) -> None:
    """Warn of a data set on which all candidates are equally good."""
    truth = runner.truth()
    if len(set(truth.values())) < 2:
        logger.warning(
            "Nothing to choose on %s (seed %d), so relative accuracy and correlations are "
            "undefined: %d candidate(s) with one true loss",
            runner.dataset,
            runner.seed,
            len(truth),
        )


def _warn_if_no_ratio(task: Task, ratios: Sequence[int]) -> None:
    """Warn where no ratio leaves a size, so that the papers' protocol has no cell."""
    smallest = min((n for n in task.sizes if n > 0), default=math.inf)
    if ratios and task.n_samples_full // min(ratios) < smallest:
        logger.warning(
            "No cell of the protocol `papers` on %s: its smallest D is %g, above D_full / %g = "
            "%g; `budget_ratios` can be up to %g there",
            task.dataset,
            smallest,
            min(ratios),
            task.n_samples_full / min(ratios),
            task.n_samples_full / smallest,
        )


def _warn_if_unanswered(task: Task, scores: Sequence[dict[str, Any]]) -> None:
    """Warn of budgets of FLOPs that paid for no trial, and say which ones would."""
    rows = [row for row in scores if row["protocol"] == "flops"]
    paid = any(row.get("cost_fraction", 0) > 0 for row in rows)
    if paid or all(row["status"] != TOO_SMALL for row in rows):
        return
    sizes = [n for n in task.sizes if 0 < n < task.n_samples_full]
    costs = [sum(task.costs.get((name, n), 0.0) for name in task.names) for n in sizes]
    shares = [math.ceil(1000 * x / task.full_cost) / 1000 for x in itertools.accumulate(costs)]
    logger.warning(
        "No budget of FLOPs sufficed on %s: the smallest trials of all candidates cost %.1f %% of "
        "fine-tuning them in full: try budget_fractions=[%s], which pay for the smallest size and "
        "for those up to each larger one",
        task.dataset,
        100 * costs[0] / task.full_cost if costs else math.nan,
        ",".join(f"{x:g}" for x in shares[:4] if x <= 1),
    )


def _table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Rows as a table; D_max is whole, and absent where FLOPs are the budget."""
    return pd.DataFrame.from_records(rows, columns=columns).astype({"max_n_samples": "Int64"})
