"""Seconds to rank many candidates: the pooled predictor beside lines fitted one after the other.

Both sides rank the same simulated candidates (rectified curves with noise, a hundred families) from
the same table of curves, with intervals and probabilities of being best. CPU time is counted, since
other work on the machine then matters less.

    python -m scripts.bench_selection [--rounds 3] [--candidates 10000] [--points 8]
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import time

import numpy as np
import pandas as pd

from lensllm.core.task import Candidate, Task
from lensllm.laws.simulation import simulate_curves
from lensllm.selectors import LastLine, PooledFit, Selector

N_FAMILIES = 100


def simulated_task(n_candidates: int, n_points: int, seed: int) -> tuple[Task, pd.DataFrame]:
    """A task with D_full = 8 · D_max, and its candidates' curves up to D_max."""
    sizes = 200 * 2 ** np.arange(n_points)
    _, losses = simulate_curves(n_candidates, sizes.astype(float), 0.01, seed)
    names = [f"model-{i}" for i in range(n_candidates)]
    full = int(8 * sizes[-1])
    task = Task(
        "simulated",
        tuple(Candidate(name, 1e9, f"family-{i % N_FAMILIES}") for i, name in enumerate(names)),
        full,
        dict.fromkeys(names, tuple(int(n) for n in sizes)),
        {(name, int(n)): float(n) for name in names for n in (*sizes, full)},
    )
    curves = pd.DataFrame(
        {
            "model": np.repeat(names, n_points),
            "dataset": "simulated",
            "n_samples": np.tile(sizes, n_candidates),
            "seed": 0,
            "test_loss": losses.ravel(),
        }
    )
    return task, curves


def cpu_seconds(selector: Selector, task: Task, curves: pd.DataFrame) -> float:
    """CPU seconds of one ranking."""
    start = time.process_time()
    selector.rank(task, curves)
    return time.process_time() - start


def main() -> None:
    """Parse the options, run both sides in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=8)
    args = parser.parse_args()
    print(f"{args.candidates} candidates, {args.points} points each, one thread, CPU seconds")
    print(f"{'round':>5s} {'pooled_fit':>12s} {'last_3_line':>12s}")
    ratios = []
    for seed in range(args.rounds):
        task, curves = simulated_task(args.candidates, args.points, seed)
        pooled = cpu_seconds(PooledFit(), task, curves)
        lines = cpu_seconds(LastLine(3), task, curves)
        ratios.append(lines / pooled)
        print(f"{seed:5d} {pooled:12.2f} {lines:12.2f}", flush=True)
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"ratio last_3_line_over_pooled_fit {middle:.2f} [{low:.2f} {high:.2f}]")


if __name__ == "__main__":
    main()
