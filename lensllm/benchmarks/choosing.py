"""Settings of selectors that spend a budget of FLOPs: how they are scored while they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.benchmarks.benchmark import Benchmark
from lensllm.benchmarks.evaluation import evaluate
from lensllm.benchmarks.tuning import Judge
from lensllm.selection import Selector


def choosing_judge(
    build: Callable[[Mapping[str, Any]], Selector],
    fractions: Sequence[float],
    n_subsets: int,
    subset_size: int,
    seed: int,
) -> Judge:
    """Score = relative accuracy of the choice, over random sets of candidates.

    One choice among all candidates of a data set says little; choices among many random sets of
    them, the same for all settings, say more.

    Args:
        build: Makes a selector of settings.
        fractions: Budgets as shares of fine-tuning every candidate of a set in full.
        n_subsets: Random sets a data set.
        subset_size: Candidates of a set.
        seed: Seed of the sets.
    """

    def judge(benchmark: Benchmark, values: Mapping[str, Any]) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        models = np.array(sorted(benchmark.curves["model"].unique()))
        parts = []
        for _ in range(n_subsets):
            subset = rng.choice(models, size=min(subset_size, len(models)), replace=False)
            curves = benchmark.curves[benchmark.curves["model"].isin(subset)]
            found = evaluate(replace(benchmark, curves=curves), [build(values)], (), fractions)
            parts.append(found.scores[["dataset", "relative_accuracy"]])
        return pd.concat(parts).rename(columns={"relative_accuracy": "score"})

    return judge
