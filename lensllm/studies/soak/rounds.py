"""One round of a soak: campaigns that are disturbed until they end, then the invariants."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lensllm.core.trials import TrialStore
from lensllm.studies.soak.campaigns import Plan, run_logged, undisturbed
from lensllm.studies.soak.disturb import Disturber, small_disk

INVARIANTS = (
    "every campaign ends",
    "nothing finished is lost",
    "nothing is run twice, but what was in flight or spoilt",
    "nothing stale, foreign or corrupt is served",
    "no file that is not a trial is removed",
    "the selection is that of an undisturbed run",
)
LIMIT_SECONDS = 300.0  # of a round that is no longer disturbed; starts are slow on a busy machine


@dataclass
class RoundResult:
    """What a round did, and what did not hold.

    Attributes:
        executor: Where its trials ran.
        n_campaigns: Campaigns that ended.
        n_starts: Processes of campaigns that it took.
        n_trials: Trials that were run to their end.
        faults: Number of faults by kind.
        checks: Number of checks by invariant.
        broken: What did not hold, by invariant.
    """

    executor: str
    n_campaigns: int = 0
    n_starts: int = 0
    n_trials: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=dict)

    def check(self, number: int, holds: bool, what: str) -> None:
        """Count a check of an invariant by its number; note what if it does not hold."""
        self.checks[INVARIANTS[number]] += 1
        if not holds:
            self.broken.setdefault(INVARIANTS[number], []).append(what)


def run_round(
    folder: Path, executor: str, seed: int, seconds: float, **options: Any
) -> RoundResult:
    """Run the campaigns of one plan, disturb them for some time, and check what must hold.

    Args:
        folder: A new folder for the round.
        executor: `pool` or `ray`.
        seed: Seed of everything but the moments at which processes are interrupted.
        seconds: How long faults are injected from outside, at most.
        options: Further fields of `Plan`.
    """
    folder.mkdir(parents=True)
    result = RoundResult(executor)
    with small_disk(folder / "disk") as is_tmpfs:
        plan = Plan(str(folder), str(folder / "disk" / "store"), executor, seed, **options)
        (folder / "disk" / "store").mkdir()
        inodes = _disturbed(plan, is_tmpfs, seconds, result)
        _check(plan, inodes, result)
        if result.broken and is_tmpfs:
            shutil.copytree(plan.store, folder / "store", symlinks=True)
    return result


def _disturbed(plan: Plan, is_tmpfs: bool, seconds: float, result: RoundResult) -> dict[int, str]:
    """Start the campaigns again and again until they have ended; the files that were injected."""
    draw = random.Random(plan.seed)
    inodes: dict[int, str] = {}
    quiet_from = time.monotonic() + seconds
    latest = quiet_from + LIMIT_SECONDS
    code: int | None = 1
    while code and time.monotonic() < latest:
        result.n_starts += 1
        plan.journal.write("start")
        # A fork, since imports take seconds; its workers are started afresh.
        process = multiprocessing.get_context("fork").Process(target=run_logged, args=(plan,))
        process.start()
        disturber = Disturber(plan, draw, psutil.Process(process.pid), is_tmpfs, inodes)
        n_begun = _begun(plan)
        while (code := process.exitcode) is None and time.monotonic() < latest:
            # Most faults are to meet trials that run, a few of them the start.
            is_running = _begun(plan) > n_begun
            if time.monotonic() < quiet_from and (is_running or draw.random() < 0.02):
                disturber.disturb()
            process.join(draw.uniform(0.05, 0.6))
        if code is None:
            process.kill()
            process.join()
    result.check(0, code == 0, f"exit code {code}, see {plan.folder}/log")
    return inodes


def _begun(plan: Plan) -> int:
    return sum(line["what"] == "begin" for line in plan.journal.read())


def _check(plan: Plan, inodes: dict[int, str], result: RoundResult) -> None:
    lines = plan.journal.read()
    result.faults.update(line["kind"] for line in lines if line["what"] == "fault")
    result.n_trials = sum(line["what"] == "end" for line in lines)
    store = TrialStore(plan.store)
    runners = [plan.runner(number) for number in range(plan.n_sets)]
    truth = {}
    for runner in runners:
        for point in runner.task().costs:
            trial = runner.complete(runner.task().trial(*point))
            truth[trial.key] = runner.replay.run(trial)
    _check_store(store, truth, lines, result)
    _check_runs(lines, result)
    left = {path.lstat().st_ino for path in Path(plan.store).iterdir()}
    for inode, name in inodes.items():
        result.check(4, inode in left, f"{name} is gone")
    for number, name in plan.campaigns:
        path = plan.outcome(number, name)
        if path.exists():
            result.n_campaigns += 1
            record = json.loads(path.read_text(encoding="utf-8"))
            _check_outcome(plan, number, name, record, result)


def _check_store(
    store: TrialStore, truth: dict[str, Any], lines: list[dict[str, Any]], result: RoundResult
) -> None:
    """Every trial whose last line is its end is in the store, with its own values."""
    last = {line["key"]: line["what"] for line in lines if "key" in line}
    for key, what in last.items():
        found = store.get(truth[key].trial)
        if what == "end":
            result.check(1, found is not None, f"{key} is not in the store")
        if found is not None:
            same = found.to_json() == truth[key].to_json()
            result.check(3, same, f"{key} has other values in the store")


def _check_runs(lines: list[dict[str, Any]], result: RoundResult) -> None:
    """After its end a trial begins again only if its file was spoilt."""
    ended: set[str] = set()
    for line in lines:
        key, what = line.get("key"), line["what"]
        if what == "begin":
            result.check(2, key not in ended, f"{key} began again after its end")
        elif what == "overlap":
            result.check(2, False, f"{key} was run by two processes at once")
        elif what == "end":
            ended.add(str(key))
        elif what == "spoilt":
            ended.discard(str(key))


def _check_outcome(
    plan: Plan, number: int, name: str, record: dict[str, Any], result: RoundResult
) -> None:
    """An answer rests on recorded losses, and is that of an undisturbed run."""
    replay = plan.replay(number)
    for row in record["curves"]:
        true = replay.run(replay.task().trial(row["model"], row["n_samples"])).test_loss
        loss = row["test_loss"]
        same = row["status"] == "failed" if loss is None else math.isclose(loss, true)
        result.check(3, same, f"{number}-{name}: {row}")
    try:
        expected = undisturbed(plan, number, name, record["events"])
    except KeyError as error:
        expected = {"another decision": str(error)}
    result.check(5, expected == record, f"{number}-{name} in {plan.folder}")
