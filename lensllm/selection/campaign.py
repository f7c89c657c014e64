"""The one loop: ask, run, charge, rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import pandas as pd

from lensllm.selection.base import Budget, Decision, Selection, Selector, Task
from lensllm.trials import Trial, TrialResult, results_table

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Executes trials: by looking them up (`Replay`) or by fine-tuning (`FineTune`)."""

    def task(self) -> Task:
        """What can be asked, and what it costs."""
        ...

    def run(self, trial: Trial) -> TrialResult:
        """Run one trial, or return its stored result."""
        ...


class Executor(Protocol):
    """Where trials are executed: in this process, or by several at once."""

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results of trials that do not wait for each other, in the order of the trials."""
        ...


def one_by_one(runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
    """Run trials here, each when the one before has ended."""
    return (runner.run(trial) for trial in trials)


def run_campaign(
    selector: Selector,
    runner: Runner,
    budget: Budget,
    on_result: Callable[[TrialResult, Budget], None] | None = None,
    executor: Executor | None = None,
) -> tuple[Selection, pd.DataFrame]:
    """Run a selector until it asks for nothing more, then let it rank.

    The selector sees only what this campaign asked for. Taking up a killed campaign is running it
    again: the same questions come in the same order, and a runner with a store answers the
    finished ones from there, charged at what they cost.

    Args:
        selector: Who decides.
        runner: Who executes.
        budget: What may be spent; it is charged in place.
        on_result: Called after every trial, for progress.
        executor: Where the trials of a decision are executed; here by default.

    Returns:
        The selection with its cost, and the tidy table of all trials of the campaign.

    Raises:
        ValueError: The budget pays for no trial.
    """
    run_all = one_by_one if executor is None else executor.run
    task = runner.task()
    results: list[TrialResult] = []
    decisions: list[str] = []
    stopped: set[str] = set()
    while True:
        curves = results_table(results)
        decision = selector.decide(task, curves, budget)
        decisions += [*_changes(stopped, decision), *decision.reasons]
        if not decision.trials:
            break
        results_of_decision = run_all(runner, decision.trials)
        for trial, result in zip(decision.trials, results_of_decision, strict=True):
            budget.charge(result.flops)
            results.append(replace(result, trial=trial))
            decisions.append(
                f"ran {trial.model} at D = {trial.n_samples}: test loss {result.test_loss:.4f}"
                if result.status == "completed"
                else f"ran {trial.model} at D = {trial.n_samples}: {result.status}"
            )
            if on_result is not None:
                on_result(result, budget)
    selection = selector.rank(task, curves)
    return (
        replace(
            selection,
            cost_flops=budget.spent,
            cost_fraction=budget.spent / task.full_cost,
            decisions=(*selection.decisions, *decisions),
        ),
        curves,
    )


def _changes(stopped: set[str], decision: Decision) -> list[str]:
    """Who is stopped since the last decision, with the reason, and who gets a trial after all.

    Args:
        stopped: Candidates that were said to be stopped; brought up to date in place.
        decision: What is decided now.
    """
    back = sorted(stopped & {trial.model for trial in decision.trials})
    new = {model: reason for model, reason in decision.stopped.items() if model not in stopped}
    stopped -= set(back)
    stopped |= set(new)
    return [
        *(f"stopped {model}: {reason}" for model, reason in new.items()),
        *(f"{model} is back in play" for model in back),
    ]


def make_budget(task: Task, fraction: float | None = None, flops: float | None = None) -> Budget:
    """A budget in FLOPs, or as a share of fine-tuning every candidate in full.

    Args:
        task: The question, which knows what full fine-tuning costs.
        fraction: Share of that cost.
        flops: FLOPs; overrides the share.

    Raises:
        ValueError: Neither is given, or it is not positive.
    """
    if flops is not None:
        return Budget(flops)
    if fraction is None:
        raise ValueError("Expected budget.fraction or budget.flops, got neither")
    if not fraction > 0:
        raise ValueError(f"Expected budget.fraction > 0, got {fraction:g}")
    return Budget(fraction * task.full_cost)
