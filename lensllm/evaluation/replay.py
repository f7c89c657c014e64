"""From a benchmark in a config to the runner that replays it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lensllm.evaluation.benchmark import Benchmark
from lensllm.execution.replay import ReplayRunner


def replay_runner(
    benchmark: Benchmark,
    dataset: str | None = None,
    n_samples_full: int | None = None,
    seed: int | None = None,
    models: Sequence[str] | None = None,
) -> ReplayRunner:
    """Replay one data set of a benchmark.

    Args:
        benchmark: The recorded curves.
        dataset: Which data set; the first one by default.
        n_samples_full: Size D_full to decide for; the benchmark's own by default.
        seed: Which seed; the smallest by default.
        models: Which candidates; all by default.

    Raises:
        ValueError: The data set or one of the candidates is unknown.
    """
    dataset = dataset or benchmark.datasets[0]
    known = set(benchmark.curves.loc[benchmark.curves["dataset"] == dataset, "model"])
    absent = sorted(set(models or ()) - known)
    if known and absent:
        raise ValueError(
            f"Expected candidates that {benchmark.name!r} recorded on {dataset!r} "
            f"({', '.join(sorted(known))}), got {absent[0]!r}"
        )
    if n_samples_full is not None:
        benchmark = replace(benchmark, n_samples_full=n_samples_full)
    return benchmark.runner(dataset, seed, tuple(models) if models else None)
