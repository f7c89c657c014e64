"""Speed-up of campaigns on several workers, and what it costs in regret, on a virtual clock.

Recorded campaigns are replayed. A trial takes as long as its recorded cost, on a clock that jumps
from one end of a trial to the next, so that the figures do not depend on the machine. `batch` waits
for all trials of a decision before it asks again, `asynchronous` asks whenever a worker is free.

    python -m scripts.bench_executors [--workers 1 2 4 8] [--fractions 0.05 0.1 0.2] [--sets 4]
    python -m scripts.bench_executors --pool 2

The 30 models of the papers' benchmark are added if LENSLLM_BENCHMARK_DIR names their folder.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import heapq
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Executor, Runner
from lensllm.core.task import Task
from lensllm.core.trials import Trial, TrialResult
from lensllm.evaluation import load_rsl, load_zoo
from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.cells import candidate_sets
from lensllm.execution.pool import PoolExecutor
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import AcceptThenStop, Adaptive, Selector, run_campaign
from lensllm.selectors.campaign import make_budget

SET_SIZE = 15  # candidates in the random sets of a benchmark that has more


class ClockExecutor(Executor):
    """Executes trials on a virtual clock: each takes as long as it costs.

    Attributes:
        n_workers: Number of trials that run at the same time.
        now: The time, in the unit of costs.
    """

    def __init__(self, n_workers: int) -> None:
        super().__init__()
        self.n_workers = n_workers
        self.now = 0.0
        self._n_started = 0
        self._running: list[tuple[float, int, Trial, TrialResult]] = []

    def start(self, runner: Runner, trial: Trial) -> None:
        """Begin a trial now, or when the first of the running ones ends."""
        super().start(runner, trial)
        self._fill()

    def next(self) -> tuple[Trial, TrialResult]:
        """Advance the clock to the next end of a trial."""
        self.now, _, trial, result = heapq.heappop(self._running)
        self._fill()
        return trial, result

    def _fill(self) -> None:
        while self._started and len(self._running) < self.n_workers:
            trial, result = super().next()
            self._n_started += 1
            heapq.heappush(self._running, (self.now + result.flops, self._n_started, trial, result))


@dataclass
class SleepingRunner(Runner):
    """Replays trials that take as long as they cost, in real time.

    Attributes:
        replay: The recorded trials.
        seconds_per_cost: Seconds that one unit of cost takes.
    """

    replay: ReplayRunner
    seconds_per_cost: float

    def task(self) -> Task:
        """The recorded task."""
        return self.replay.task()

    def run(self, trial: Trial) -> TrialResult:
        """Sleep, then look the trial up."""
        result = self.replay.run(trial)
        time.sleep(self.seconds_per_cost * result.flops)
        return result


class BatchAdaptive(Adaptive):
    """Adaptive, asked again only when all of its trials have ended."""

    asks_early = False


class BatchAcceptThenStop(AcceptThenStop):
    """Accept then Stop, asked again only when all of its trials have ended."""

    asks_early = False


SELECTORS: dict[tuple[str, str], Selector] = {
    ("adaptive", "batch"): BatchAdaptive(),
    ("adaptive", "asynchronous"): Adaptive(),
    ("ats", "batch"): BatchAcceptThenStop(),
    ("ats", "asynchronous"): AcceptThenStop(),
}


def replays(benchmark: Benchmark, n_sets: int) -> Iterator[tuple[ReplayRunner, PriorCurves]]:
    """Every data set, seed and set of candidates, with the curves of the other data sets."""
    for dataset in benchmark.datasets:
        others = PriorCurves(benchmark.curves[benchmark.curves["dataset"] != dataset])
        for seed in benchmark.seeds(dataset):
            for names in candidate_sets(benchmark, dataset, seed, (None, SET_SIZE), n_sets):
                yield benchmark.runner(dataset, seed, names), others


def measure(
    selector: Selector, runner: ReplayRunner, prior: PriorCurves, fraction: float, n_workers: int
) -> dict[str, float]:
    """Duration of one campaign, its cost and its regret, the last as a share of the best loss."""
    executor = ClockExecutor(n_workers)
    budget = make_budget(runner.task(), fraction)
    selection, curves = run_campaign(
        selector, runner, budget, executor=executor, prior_curves=prior
    )
    truth = runner.truth()
    best = min(truth.values())
    return {
        "time": executor.now,
        "cost": selection.cost_fraction,
        "over": selection.cost_fraction > fraction * (1 + 1e-9),
        "regret": truth[selection.best.model] / best - 1.0,
        "n_trials": len(curves),
    }


def time_pool(n_workers: int, seconds: float) -> None:
    """Time real pools whose trials sleep; one after the other, they would take `seconds`."""
    (replay, prior), *_ = replays(load_zoo(), 0)
    runner = SleepingRunner(replay, seconds / (0.2 * replay.task().full_cost))
    found = {}
    for mode in ("batch", "asynchronous"):
        with closing(PoolExecutor(n_workers)) as pool:
            for place in range(n_workers):  # starting processes is not what is timed
                pool.start(runner, replay.task().trial(replay.task().names[place], 0))
            for _ in range(n_workers):
                pool.next()
            start = time.perf_counter()
            selector, budget = SELECTORS["adaptive", mode], make_budget(replay.task(), 0.2)
            run_campaign(selector, runner, budget, executor=pool, prior_curves=prior)
            found[mode] = time.perf_counter() - start
        print(f"pool of {n_workers}, {mode}: {found[mode]:.1f} s", flush=True)
    print(f"ratio pool_batch_over_asynchronous {found['batch'] / found['asynchronous']:.3f}")


def main() -> None:
    """Replay every campaign, and print one table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--pool", type=int, help="time a real pool of so many processes instead")
    parser.add_argument("--seconds", type=float, default=40.0)
    args = parser.parse_args()
    if args.pool:
        time_pool(args.pool, args.seconds)
        return
    folder = os.environ.get("LENSLLM_BENCHMARK_DIR")
    benchmarks = [load_zoo(), *([load_rsl(Path(folder) / "rsl")] if folder else [])]
    rows = []
    for benchmark in benchmarks:
        for number, (runner, prior) in enumerate(replays(benchmark, args.sets)):
            for fraction in args.fractions:
                for (name, mode), selector in SELECTORS.items():
                    for n_workers in args.workers:
                        try:
                            found = measure(selector, runner, prior, fraction, n_workers)
                        except ValueError:  # the budget does not pay for a line
                            continue
                        keys = {"benchmark": benchmark.name, "selector": name, "mode": mode}
                        rows.append(
                            {**keys, "workers": n_workers, "cell": (number, fraction), **found}
                        )
    table = pd.DataFrame(rows)
    base = ["benchmark", "selector", "cell"]
    alone = table[(table["workers"] == 1) & (table["mode"] == "batch")].set_index(base)["time"]
    table["speed_up"] = alone.loc[pd.MultiIndex.from_frame(table[base])].to_numpy() / table["time"]
    groups = table.groupby(["benchmark", "selector", "workers", "mode"])
    shown = groups[["speed_up", "regret", "cost", "n_trials", "over"]].mean()
    shown.insert(0, "campaigns", groups.size())
    print(shown.round(4).to_string())
    wide = table.pivot_table("time", [*base, "workers"], "mode")
    ratios = wide["batch"] / wide["asynchronous"]
    for (name, selector, n), found in ratios.groupby(["benchmark", "selector", "workers"]):
        label = f"batch_over_asynchronous_{name}_{selector}_{n}"
        print(f"ratio {label} {found.median():.3f} [{found.min():.3f} {found.max():.3f}]")


if __name__ == "__main__":
    main()
