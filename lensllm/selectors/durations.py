"""How long trials will take, from those that were run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from lensllm.core.task import Task
from lensllm.core.trials import Trial, TrialResult

# Trials of one kind differ by about a tenth in time; estimates are on the safe side of that.
MARGIN = 1.1


def predicted_seconds(task: Task, results: Sequence[TrialResult]) -> dict[tuple[str, int], float]:
    """Wall time of every possible trial: seconds = overhead + FLOPs / speed.

    Overhead (loading and encoding) and speed of a candidate are those of its own trials; one
    without trials gets the medians of the others. What a trial took for training and evaluation is
    `TrialResult.compute_seconds`; where it is unknown, all of its time counts as such, so that
    larger trials are over-estimated until one of them has run.

    Args:
        task: The selection task, whose costs are upper bounds in its own unit, such as FLOPs.
        results: Trials that were run on this machine, with their costs in the same unit.

    Returns:
        Seconds by (candidate, D).

    Raises:
        ValueError: No trial has a time.
    """
    timed: dict[str, list[TrialResult]] = {}
    for result in filter(is_timed, results):
        timed.setdefault(result.trial.model, []).append(result)
    if not timed:
        raise ValueError("Expected at least one trial that was timed, got none")
    overhead, pace = {}, {}  # seconds, and seconds per FLOP
    for name, own in timed.items():
        pace[name] = sum(map(_compute, own)) / sum(result.flops for result in own)
        overhead[name] = median(result.seconds - _compute(result) for result in own)
    usual = median(overhead.values()), median(pace.values())
    return {
        (name, n): MARGIN * (overhead.get(name, usual[0]) + pace.get(name, usual[1]) * cost)
        for (name, n), cost in task.costs.items()
    }


def is_timed(result: TrialResult) -> bool:
    """Whether a result says how long a trial of known cost took."""
    return result.status != "failed" and result.seconds > 0 and 0 < result.flops < math.inf


def _compute(result: TrialResult) -> float:
    known = 0 < result.compute_seconds <= result.seconds
    return result.compute_seconds if known else result.seconds


def cheapest_trial(task: Task) -> Trial:
    """The trial by which the speed is measured first: the cheapest one, if possible with D > 0."""
    pairs = [(name, n) for name in task.names for n in task.available[name]]
    return task.trial(*min(pairs, key=lambda pair: (pair[1] == 0, task.costs[pair])))
