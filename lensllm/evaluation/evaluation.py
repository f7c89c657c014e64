"""Every selector on every data set and budget, by replay, against the recorded truth."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.judge import judge
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import Decision, Selector

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
        runner: Replays the data set, with the candidates of a set.
        protocol: `papers` (every D ≤ D_max may be had) or `flops` (a budget of FLOPs).
        budget: Makes the budget, since a campaign charges it in place.
        ratio: D_full / D_max in the papers' protocol, else `nan`.
        fraction: Budget as a share of full fine-tuning in the FLOPs' protocol, else `nan`.
        candidate_set: Number of the set of candidates; see `candidate_sets`.
    """

    runner: ReplayRunner
    protocol: str
    budget: Callable[[], Budget]
    ratio: float = math.nan
    fraction: float = math.nan
    candidate_set: int = 0

    def keys(self) -> dict[str, Any]:
        """Columns that tell the cell's rows from those of others."""
        task, budget = self.runner.task(), self.budget()
        return {
            "dataset": task.dataset,
            "n_samples_full": task.n_samples_full,
            "max_n_samples": budget.max_n_samples,
            "seed": task.seed,
            "protocol": self.protocol,
            "budget_ratio": self.ratio,
            "budget_fraction": self.fraction,
            "candidate_set": self.candidate_set,
        }


class _Remembering(Selector):
    """A selector that ranks by one set of points of one data set and seed only once."""

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
    progress: Callable[[str], None] | None = None,
    set_sizes: Sequence[int | None] = (None,),
    n_sets: int = 1,
    set_seed: int = 0,
    earlier_tasks: bool = True,
) -> Evaluation:
    """Judge selectors on a recorded benchmark: every campaign by replay, against the truth.

    Args:
        benchmark: The benchmark.
        selectors: The selectors; their names must differ. Or a function from the name of a data
            set to who is judged on it.
        budget_ratios: D_full / D_max, for the papers' protocol: every D ≤ D_max may be had, and
            what a selector asks for is its cost. Ratios that leave no size are passed over.
        budget_fractions: FLOPs that may be spent, as shares of fine-tuning every candidate on
            D_full, for the protocol where the selector decides what to spend them on.
        datasets: Which data sets; all by default.
        seeds: Which seeds; all that have losses at D_full by default.
        progress: Called with the name of every cell before it is run.
        set_sizes: Sizes of the sets of candidates; see `candidate_sets`.
        n_sets: Random sets of each size.
        set_seed: Seed of the sets.
        earlier_tasks: Whether campaigns know the curves of the other data sets.

    Returns:
        Scores and predictions, in the order of data sets, seeds, sets, budgets and selectors.

    Raises:
        ValueError: A name is unknown or stands there twice, or a budget is out of range.
    """
    if not callable(selectors):
        _check_names(selectors)
    unknown = sorted(set(datasets or ()) - set(benchmark.datasets))
    if unknown:
        listed = ", ".join(benchmark.datasets)
        raise ValueError(f"Expected `datasets` among {listed}, got {unknown[0]!r}")
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for dataset in benchmark.datasets if datasets is None else datasets:
        judged = selectors(dataset) if callable(selectors) else selectors
        _check_names(judged)
        judged = [_Remembering(item) for item in judged]
        others = benchmark.curves[benchmark.curves["dataset"] != dataset]
        prior = PriorCurves(others) if earlier_tasks else None
        for seed in _seeds(benchmark, dataset, seeds):
            _warn_if_undefined(benchmark.runner(dataset, seed))
            for position, names in enumerate(
                candidate_sets(benchmark, dataset, seed, set_sizes, n_sets, set_seed)
            ):
                runner = benchmark.runner(dataset, seed, names)
                for cell in _cells(runner, budget_ratios, budget_fractions, position):
                    keys = cell.keys()
                    for selector in judged:
                        if progress is not None:
                            progress(f"{dataset} seed {seed} {_label(cell)} {selector.name}")
                        row, lines = judge(selector, runner, cell.budget(), runner.truth(), prior)
                        scores.append({**keys, **row})
                        predictions += [{**keys, **line} for line in lines]
    return Evaluation(_table(scores, SCORE_COLUMNS), _table(predictions, PREDICTION_COLUMNS))


def candidate_sets(
    benchmark: Benchmark,
    dataset: str,
    seed: int,
    sizes: Sequence[int | None] = (None,),
    n_sets: int = 1,
    set_seed: int = 0,
) -> Iterator[tuple[str, ...] | None]:
    """All candidates of a data set (`None`), and random sets of each smaller size.

    Args:
        benchmark: The benchmark.
        dataset: The data set.
        seed: Seed of its curves.
        sizes: Sizes of sets; those that are not smaller than the whole are passed over.
        n_sets: Sets of each size; as many as there are where that is fewer.
        set_seed: Seed of the sets.
    """
    rng = np.random.default_rng(set_seed)
    names = sorted(benchmark.runner(dataset, seed).task().names)
    for size in sizes:
        if size is None:
            yield None
        elif size < len(names):
            yield from random_subsets(names, size, min(n_sets, math.comb(len(names), size)), rng)


def random_subsets(
    names: Sequence[str], size: int, n_subsets: int, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """Distinct random subsets, their names in the given order.

    Args:
        names: What to draw from.
        size: Names of a subset, at least 2 and fewer than there are.
        n_subsets: How many.
        rng: Source of randomness.

    Raises:
        ValueError: The subsets are too small or too large, or there are not as many.
    """
    if n_subsets and not 2 <= size < len(names):
        raise ValueError(
            f"Expected subsets of 2 to {len(names) - 1} of {len(names)} candidates, got {size}"
        )
    if n_subsets > math.comb(len(names), size):
        raise ValueError(
            f"Expected at most {math.comb(len(names), size)} subsets of {size} candidates, got "
            f"{n_subsets}"
        )
    found: dict[tuple[str, ...], None] = {}
    while len(found) < n_subsets:
        picked = np.sort(rng.choice(len(names), size, replace=False))
        found[tuple(names[i] for i in picked)] = None
    return list(found)


def _check_names(selectors: Sequence[Selector]) -> None:
    """Refuse selectors whose rows could not be told apart."""
    names = [selector.name for selector in selectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Expected selectors with different names, got {names}")


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


def _cells(
    runner: ReplayRunner,
    ratios: Sequence[int],
    fractions: Sequence[float],
    candidate_set: int,
) -> list[Cell]:
    """The budgets of one data set, seed and set of candidates."""
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
        budget = partial(Budget, max_n_samples=largest)
        cells.append(Cell(runner, "papers", budget, ratio=ratio, candidate_set=candidate_set))
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"Expected budget fractions in (0, 1], got {fraction:g}")
        budget = partial(Budget, flops=fraction * task.full_cost)
        cells.append(Cell(runner, "flops", budget, fraction=fraction, candidate_set=candidate_set))
    return cells


def _label(cell: Cell) -> str:
    return f"D/{cell.ratio:g}" if cell.protocol == "papers" else f"{cell.fraction:.2%} of FLOPs"
