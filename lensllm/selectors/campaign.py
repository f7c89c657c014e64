"""The loop of every campaign: ask, run, charge, rank."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pandas as pd

from lensllm.core.events import (
    KNOWN,
    LEFT_OUT,
    OUT_OF_TIME,
    PREPARED,
    RAN,
    RESUMED,
    SET_ASIDE,
    STOPPED,
    Event,
)
from lensllm.core.measures import Measure
from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Executor, Runner
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.selectors.base import Decision, Selector
from lensllm.selectors.cautions import few_examples, prediction_warnings, tuning_warnings
from lensllm.selectors.known_trials import Ledger
from lensllm.selectors.paired_losses import evaluation_share, evidence_of
from lensllm.selectors.second_opinion import second_opinion

logger = logging.getLogger(__name__)


def run_campaign(
    selector: Selector,
    runner: Runner,
    budget: Budget,
    on_result: Callable[[TrialResult, Budget], None] | None = None,
    executor: Executor | None = None,
    max_failures: int = 2,
    known: Sequence[TrialResult] = (),
    prior_curves: PriorCurves | None = None,
    ledger: Ledger | None = None,
    on_decision: Callable[[Decision], None] | None = None,
) -> tuple[Selection, pd.DataFrame]:
    """Run a selector until it asks for no more trials, then let it rank the candidates.

    The selector sees the results of this campaign and those known before it. The trials of a
    decision are started together, and the selector is asked again as soon as a place is free: while
    others still run, if it `asks_early`. Their costs are reserved, so that the budget holds. A
    trial that has run is not run again, and one that the rest of the budget does not pay for is not
    started. A decision depends on what has ended before it: on one place always the same, on
    several the order of the events of the kind `ran`.

    To resume a killed campaign, run it again: the same trials are asked for in the same order, and
    a runner with a store returns the finished ones from there, charged at their original cost.
    With several places this takes a ledger, which has the order in which results have arrived.

    A trial that fails or diverges is a result: its candidate continues without it, and is excluded
    after `max_failures` such trials. Candidates that were excluded or have no usable trial are
    ranked last, with the reason.

    Args:
        selector: The selector.
        runner: The runner of the trials.
        budget: The budget; it is charged in place. A failed trial is charged with its cost, or with
            its largest possible cost if the cost is unknown.
        on_result: Called after every trial, for progress.
        executor: Where the trials are executed; by default in this process.
        max_failures: Failed or diverged trials after which a candidate is excluded.
        known: Results that were paid for before; they are not charged.
        prior_curves: Curves of earlier tasks; by default those of the task.
        ledger: The record of this campaign in its store, opened.
        on_decision: Called with every answer of the selector, for progress.

    Returns:
        The selection with its cost, and the tidy table of all trials of the campaign.

    Raises:
        ValueError: The budget pays for no trial, or earlier tasks lack the measure.
        NoCandidateError: All candidates have failed.
    """
    if max_failures < 1:
        raise ValueError(f"Expected `max_failures` >= 1, got {max_failures}")
    executor = executor or Executor()
    task = runner.task()
    if prior_curves is not None:
        task.measure.require(prior_curves.curves, "the curves of earlier tasks")
        task = replace(task, prior_curves=prior_curves)
    whole = task
    results = [replace(r, trial=task.trial(r.trial.model, r.trial.n_samples)) for r in known]
    codes = task.failure_codes
    events = [
        Event(LEFT_OUT, name, message=why, error_code=codes.get(name, ""))
        for name, why in task.failures.items()
    ]
    events += [Event(KNOWN, r.trial.model, r.trial.n_samples) for r in results]
    spent = 0.0
    if (needed := selector.preparation_cost(task)) > 0:
        budget.charge(needed)
        spent += needed
        events.append(Event(PREPARED, value=needed))
    stopped: set[str] = set()
    is_asked = False
    places = _Places(executor, runner, budget, ledger)
    while True:
        seen = results_table([r for r in results if r.trial.model in task.names], examples=True)
        priced = task
        decision = Decision(budget.first_trials(task, results))
        if not decision.trials:
            priced = budget.priced(task, results)
            try:
                as_seen = budget.as_seen(priced, results[len(known) :])
                decision = selector.ask(priced, seen, as_seen)
            except BudgetTooSmallError as error:
                if not is_asked:
                    raise budget.too_small(error) from None
                decision = Decision()  # time has passed faster than was expected
            is_asked = True
        if on_decision is not None:
            on_decision(decision)
        n_new = places.take(decision.trials, priced, {r.trial.point for r in results})
        if n_new or not budget.pending:
            events += _news(stopped, decision)
        if not n_new and not budget.pending:
            break
        n_before = len(results)
        while (ended := places.next()) is not None:
            trial, result = ended
            most = whole.costs[trial.point]
            cost = result.flops if math.isfinite(result.flops) else most
            budget.charge(cost)
            spent += cost
            results.append(replace(result, trial=trial, flops=cost))
            events.append(_ran(result, task.measure))
            if on_result is not None:
                on_result(result, budget)
            if selector.asks_early and places.are_free:
                break
        if len(results) == n_before:
            events.append(Event(OUT_OF_TIME, value=budget.remaining, message=priced.cost_unit))
            break
        task = _without_slow(task, results)
        set_aside = _set_aside(task, results, max_failures)
        events += [Event(SET_ASIDE, model, message=why) for model, why in set_aside.items()]
        if set_aside:
            task = task.without(set_aside)
    selection = selector.rank(priced, seen)
    evidence = evidence_of(selection, seen)
    differing, remarks = second_opinion(selector, priced, seen, selection)
    curves = results_table(results)
    return (
        replace(
            selection,
            ranking=_with_failures(selection.ranking, task, results),
            cost_flops=spent,
            cost_unit=whole.cost_unit,
            cost_fraction=spent / whole.full_cost,
            cost_seconds=_seconds(budget, results[len(known) :]),
            events=(*selection.events, *events, *differing),
            warnings=(
                *selection.warnings,
                *remarks,
                *tuning_warnings(curves, task.losses_before, task.measure),
                *prediction_warnings(selection, curves),
                *few_examples(selection, evidence),
            ),
            evidence=evidence,
            evaluation_share=evaluation_share(curves),
            candidates=whole.candidates,
        ),
        curves,
    )


class _Places:
    """The trials of a campaign that wait for a place of its executor, and those that run.

    Results arrive in the order of the campaign's interrupted run, as far as there was one.
    """

    def __init__(
        self, executor: Executor, runner: Runner, budget: Budget, ledger: Ledger | None
    ) -> None:
        self._executor = executor
        self._runner = runner
        self._budget = budget
        self._ledger = ledger
        self._task = runner.task()
        self._waiting: deque[Trial] = deque()
        self._early: dict[tuple[str, int], tuple[Trial, TrialResult]] = {}

    @property
    def are_free(self) -> bool:
        """Whether a place is free for which no trial waits."""
        return not self._waiting and len(self._budget.pending) < self._executor.n_workers

    def take(self, trials: Sequence[Trial], task: Task, seen: Collection[tuple[str, int]]) -> int:
        """Let the trials of a decision wait, each once, but for those that run or have ended.

        Args:
            trials: The trials.
            task: The task, with the costs in the unit of the budget.
            seen: The (candidate, D) pairs of the trials that have ended.

        Returns:
            How many wait now.
        """
        self._task = task
        asked = {trial.point: trial for trial in trials}
        new = [
            trial
            for point, trial in asked.items()
            if point not in seen and point not in self._budget.pending
        ]
        if self._executor.n_workers > 1:  # the longest first, so that none is left to run alone
            new.sort(key=lambda trial: -task.costs[trial.point])
        self._waiting.extend(new)
        return len(new)

    def next(self) -> tuple[Trial, TrialResult] | None:
        """Fill the free places, then wait for the next result; `None` if nothing runs."""
        budget = self._budget
        while self._waiting and len(budget.pending) < self._executor.n_workers:
            trial = self._waiting.popleft()
            if budget.fits(trial, self._task):
                budget.pending[trial.point] = self._task.costs[trial.point]
                self._executor.start(self._runner, trial)
        if not budget.pending:
            return None
        trial, result = self._arrival()
        del budget.pending[trial.point]
        return trial, result

    def _arrival(self) -> tuple[Trial, TrialResult]:
        turn = None if self._ledger is None else self._ledger.expected
        if turn not in self._budget.pending:
            turn = next(iter(self._early), None)
        while turn is None or turn not in self._early:
            trial, result = self._executor.next()
            self._early[trial.point] = trial, result
            turn = turn or trial.point
        trial, result = self._early.pop(turn)
        if self._ledger is not None:
            self._ledger.add(trial)
        return trial, result


def _seconds(budget: Budget, results: Sequence[TrialResult]) -> float:
    """Seconds that a campaign took, or else its trials; `nan` if they were looked up."""
    taken = sum(result.seconds for result in results if math.isfinite(result.seconds))
    return budget.seconds if math.isfinite(budget.seconds) else taken or math.nan


def _without_slow(task: Task, results: Sequence[TrialResult]) -> Task:
    """The task without the sizes at which, or above, a trial was ended at its time limit."""
    available = dict(task.available)
    for result in results:
        model, most = result.trial.model, result.trial.n_samples
        if result.status == "timed_out" and model in available:
            available[model] = tuple(n for n in available[model] if n < most)
    return replace(task, available=available)


def _set_aside(task: Task, results: Sequence[TrialResult], max_failures: int) -> dict[str, str]:
    """Candidates with `max_failures` or more failed or diverged trials, with the reason.

    A candidate of which even the smallest trial is too slow has failed as well.
    """
    bad: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.status != "completed" and result.trial.model in task.names:
            bad.setdefault(result.trial.model, []).append(result)
    slow = {model for model in bad if not any(task.available[model])}
    return {
        model: _why(found)
        for model, found in bad.items()
        if len(found) >= max_failures or model in slow
    }


def _why(results: Sequence[TrialResult]) -> str:
    """The reason of the last failed trial, or the sizes at which trials diverged."""
    reasons = [result.reason for result in results if result.status == "failed"]
    sizes = ", ".join(str(r.trial.n_samples) for r in results if r.status == "diverged")
    slow = ", ".join(str(r.trial.n_samples) for r in results if r.status == "timed_out")
    parts = [f"it diverged at D = {sizes}"] * bool(sizes)
    parts += [f"it was ended at its time limit at D = {slow}"] * bool(slow)
    return reasons[-1] if reasons else " and ".join(parts)


def _with_failures(
    ranking: tuple[RankedModel, ...], task: Task, results: Sequence[TrialResult]
) -> tuple[RankedModel, ...]:
    """The ranking with the reasons of unranked candidates; those left out come last."""
    why: dict[str, str] = {}
    for result in results:
        if result.status != "completed":
            at = f"at D = {result.trial.n_samples}"
            what = (
                f"failed {at}: {result.reason}"
                if result.reason
                else f"{result.status.replace('_', ' ')} {at}"
            )
            why.setdefault(result.trial.model, what)
    named = tuple(
        replace(entry, status=why[entry.model])
        if entry.status != "ranked" and entry.model in why
        else entry
        for entry in ranking
    )
    last = tuple(
        RankedModel(name, math.nan, status=f"failed: {reason}")
        for name, reason in task.failures.items()
    )
    return (*named, *last)


def _ran(result: TrialResult, measure: Measure) -> Event:
    """The event of a trial that was run."""
    value = result.value(measure)
    loss = value if math.isfinite(value) else None
    trial = result.trial
    return Event(
        RAN,
        trial.model,
        trial.n_samples,
        loss,
        result.status,
        result.reason,
        error_code=result.error_code,
    )


def _news(stopped: set[str], decision: Decision) -> list[Event]:
    """The new events of a decision: candidates that are resumed, and those newly stopped.

    Args:
        stopped: Candidates already reported as stopped; updated in place.
        decision: The current decision.
    """
    back = sorted(stopped & {trial.model for trial in decision.trials})
    stopped -= set(back)
    news = [Event(RESUMED, model) for model in back]
    news += [e for e in decision.events if e.kind != STOPPED or e.model not in stopped]
    stopped |= {event.model for event in decision.events if event.kind == STOPPED}
    return news


def make_budget(task: Task, fraction: float | None = None, flops: float | None = None) -> Budget:
    """A budget in FLOPs, or as a share of fine-tuning every candidate in full.

    Args:
        task: The selection task, which holds the cost of full fine-tuning.
        fraction: Share of that cost.
        flops: FLOPs; overrides the share.

    Raises:
        ValueError: Neither is given, or it is not positive.
    """
    for name, value in (("budget.fraction", fraction), ("budget.flops, FLOPs", flops)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"Expected a finite {name} > 0, got {value:g}")
    if flops is not None:
        return Budget(flops)
    if fraction is None:
        raise ValueError("Expected budget.fraction or budget.flops, got neither")
    return Budget(fraction * task.full_cost)
