"""The campaigns of a round, in one process that can be killed and started again."""

from __future__ import annotations

import json
import logging
import os
import random
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from lensllm.core.events import KNOWN, RAN
from lensllm.core.protocols import Executor, Runner
from lensllm.core.selection import Selection
from lensllm.core.task import Budget
from lensllm.core.trials import Trial, TrialResult, TrialStore, digest_of
from lensllm.evaluation import load_zoo
from lensllm.execution.pool import PoolExecutor
from lensllm.execution.ray import RayExecutor
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import (
    AcceptThenStop,
    Adaptive,
    EverySize,
    Selector,
    SubTuning,
    SuccessiveHalving,
    run_campaign,
)
from lensllm.selectors.campaign import make_budget
from lensllm.selectors.known_trials import Ledger
from lensllm.studies.soak.faulty import YEAR, FaultyRunner, Journal, shifted_clock
from lensllm.system.atomic import write_whole

SELECTORS: dict[str, Selector] = {
    "adaptive": Adaptive(),
    "ats": AcceptThenStop(),
    "successive_halving": SuccessiveHalving(),
    "sub_tuning": SubTuning(),
    "every_size": EverySize(),
}
EXECUTORS = {"pool": PoolExecutor, "ray": RayExecutor}


@dataclass(frozen=True)
class Plan:
    """The campaigns of a round, which share a store.

    Attributes:
        folder: Folder of the journal and of the results.
        store: Folder of the store.
        executor: `pool` or `ray`.
        seed: Seed of the candidates, the order of the campaigns, and the faults.
        n_workers: Number of trials at the same time.
        n_sets: Number of sets of candidates; every selector has a campaign on each.
        n_models: Number of recorded curves in a set.
        rate: Share of trials that have a fault at their first attempt.
    """

    folder: str
    store: str
    executor: str = "pool"
    seed: int = 0
    n_workers: int = 3
    n_sets: int = 2
    n_models: int = 20
    rate: float = 0.06

    @property
    def journal(self) -> Journal:
        """What happens in the round."""
        return Journal(Path(self.folder) / "journal.jsonl")

    @property
    def campaigns(self) -> list[tuple[int, str]]:
        """Pairs of a set and a selector: set by set, every size last, since it runs all trials."""
        draw = random.Random(self.seed)
        found = []
        for number in range(self.n_sets):
            names = [name for name in SELECTORS if name != "every_size"]
            found += [(number, name) for name in (*draw.sample(names, len(names)), "every_size")]
        return found

    def outcome(self, number: int, selector: str) -> Path:
        """The file with the answer of a campaign."""
        return Path(self.folder) / f"{number}-{selector}.json"

    def replay(self, number: int) -> ReplayRunner:
        """Recorded curves of the zoo as one set: each model, data set and seed is a candidate."""
        curves = _curves()
        names = sorted(set(curves["model"]))
        chosen = random.Random(f"{self.seed} {number}").sample(names, self.n_models)
        curves = curves.assign(dataset=f"set-{number}", seed=self.seed)
        return ReplayRunner(curves[curves["model"].isin(chosen)], f"set-{number}")

    def runner(self, number: int) -> FaultyRunner:
        """The runner of a set."""
        store = TrialStore(self.store)
        return FaultyRunner(
            self.replay(number), store, self.journal, rate=self.rate, seed=self.seed
        )


@lru_cache(maxsize=1)
def _curves() -> pd.DataFrame:
    curves = load_zoo().curves
    curves = curves[curves["dataset"].isin(["docstrings", "wiki"]) & (curves["n_samples"] <= 6400)]
    names = curves["model"] + "-" + curves["dataset"] + "-" + curves["seed"].astype(str)
    return curves.assign(model=names)


def run_all(plan: Plan) -> None:
    """Run the campaigns of a plan that have no outcome yet."""
    made: Executor = EXECUTORS[plan.executor](n_workers=plan.n_workers)
    with closing(made) as executor:
        runner, current = None, None
        for number, name in plan.campaigns:
            path = plan.outcome(number, name)
            if path.exists():
                continue
            if runner is None or current != number:
                runner, current = plan.runner(number), number
            ledger = Ledger(runner.store.folder, digest_of([plan.seed, number, name]))
            known = ledger.open(runner.known())
            found = run_campaign(
                SELECTORS[name],
                runner,
                _budget(runner, name),
                executor=executor,
                known=known,
                ledger=ledger,
            )
            write_whole(path, json.dumps(as_record(*found)))
            ledger.close()


def undisturbed(plan: Plan, number: int, name: str, events: Sequence[dict[str, Any]]) -> Any:
    """The answer of a campaign without any fault in which results arrive in the same order.

    Args:
        plan: The plan.
        number: The set.
        name: The selector.
        events: The events of the disturbed campaign.
    """
    replay = plan.replay(number)
    task = replay.task()
    known = [
        replay.run(task.trial(event["model"], event["n_samples"]))
        for event in events
        if event["kind"] == KNOWN
    ]
    executor = GivenOrder([event for event in events if event["kind"] == RAN], plan.n_workers)
    budget = _budget(replay, name)
    found = run_campaign(SELECTORS[name], replay, budget, executor=executor, known=known)
    return json.loads(json.dumps(as_record(*found)))


class GivenOrder(Executor):
    """Trials end in a given order, those that failed as they did.

    Args:
        arrivals: The events of the trials.
        n_workers: Number of trials at the same time.
    """

    def __init__(self, arrivals: Sequence[dict[str, Any]], n_workers: int) -> None:
        super().__init__()
        self.n_workers = n_workers
        self._arrivals = deque(arrivals)
        self._running: dict[tuple[str, int], tuple[Runner, Trial]] = {}

    def start(self, runner: Runner, trial: Trial) -> None:
        """Begin a trial."""
        self._running[trial.point] = runner, trial

    def next(self) -> tuple[Trial, TrialResult]:
        """The trial whose turn it is.

        Raises:
            KeyError: It was not asked for, so decisions differ.
        """
        event = self._arrivals.popleft()
        runner, trial = self._running.pop((event["model"], event["n_samples"]))
        if event["reason"] != "failed":
            return trial, runner.run(trial)
        code = event.get("error_code", "error")
        return trial, TrialResult.failure(trial, event["message"], error_code=code)


def as_record(selection: Selection, curves: pd.DataFrame) -> dict[str, Any]:
    """Everything of an answer as JSON; numbers that are not finite are texts, to be compared."""
    columns = ["model", "n_samples", "status", "test_loss", "test_loss_per_byte", "flops"]
    answer = asdict(selection)
    events = [event.to_json() for event in selection.events]
    return {
        "events": events,
        "answer": json.dumps({**answer, "events": events}, sort_keys=True),
        "curves": json.loads(curves[columns].to_json(orient="records", double_precision=15)),
    }


def _budget(runner: Runner, name: str) -> Budget:
    return make_budget(runner.task(), 10.0 if name == "every_size" else 0.2)


def run_logged(plan: Plan) -> None:
    """Run a plan in a process of its own, on a clock that is wrong by years, with a log."""
    with (Path(plan.folder) / "log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, force=True)
    with shifted_clock(YEAR * random.uniform(-10, 10) if plan.rate else 0.0):
        run_all(plan)
