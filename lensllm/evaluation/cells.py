"""The cells of an evaluation: data sets, seeds, sets of candidates, and budgets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lensllm.core.task import Budget
from lensllm.evaluation.benchmark import Benchmark
from lensllm.execution.replay import ReplayRunner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One task of an evaluation, with one budget.

    Attributes:
        runner: Replays the data set, with the candidates of a set.
        protocol: `papers` (every D ≤ D_max is available) or `flops` (a budget of FLOPs).
        budget: Function that makes a new budget, since a campaign charges it in place.
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

    @property
    def label(self) -> str:
        """The budget in words."""
        if self.protocol == "papers":
            return f"D/{self.ratio:g}"
        return f"{self.fraction:.2%} of FLOPs"

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


def cells_of(
    runner: ReplayRunner,
    ratios: Sequence[int],
    fractions: Sequence[float],
    candidate_set: int,
) -> list[Cell]:
    """The budgets of one data set, seed and set of candidates.

    Args:
        runner: Replays the curves of these candidates.
        ratios: D_full / D_max, for the papers' protocol; ratios that leave no size are skipped.
        fractions: Budgets as shares of the FLOPs of fine-tuning every candidate in full.
        candidate_set: Number of the set of candidates, for the rows.

    Raises:
        ValueError: A ratio is not above 1, or a fraction not in (0, 1].
    """
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
        n_sets: Number of sets of each size; all of them where there are fewer.
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
        size: Number of names in a subset, at least 2 and fewer than there are.
        n_subsets: Number of subsets.
        rng: Source of randomness.

    Raises:
        ValueError: The subsets are too small or too large, or there are fewer than `n_subsets`.
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


def seeds_of(benchmark: Benchmark, dataset: str, seeds: Sequence[int] | None) -> Sequence[int]:
    """The seeds to evaluate on one data set; the log says which are left out.

    Args:
        benchmark: The recorded curves.
        dataset: The data set.
        seeds: The wanted seeds; `None` for all that have losses at D_full.

    Raises:
        ValueError: A wanted seed has no losses at D_full.
    """
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
