"""A whole campaign: inspect the candidates, run trials within a budget, rank, and write."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lensllm.api.result import Result
from lensllm.core.amounts import Amount
from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Executor, Runner
from lensllm.core.selection import Selection
from lensllm.core.task import Budget
from lensllm.core.trials import TrialResult
from lensllm.finetune.trackers import MakeLogger
from lensllm.reports.campaign_tracking import CampaignTracker
from lensllm.reports.data_words import classes_words, earlier_words
from lensllm.reports.progress import CampaignBar, CampaignProgress
from lensllm.reports.selection_report import write_selection
from lensllm.selectors.base import Selector
from lensllm.selectors.campaign import run_campaign
from lensllm.selectors.data_needs import with_data_needs
from lensllm.selectors.known_trials import Ledger, campaign_key
from lensllm.selectors.time_budget import TimeBudget, budget_of
from lensllm.system.atomic import check_writable
from lensllm.system.harmless import one_row
from lensllm.system.interrupts import is_first_rank
from lensllm.system.progress import LongWork, note

logger = logging.getLogger(__name__)


def run_selection(
    selector: Selector,
    runner: Runner,
    budget: Amount,
    executor: Executor,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    preflight: bool = True,
    reuse: bool = True,
    prior_curves: str | Path | None = None,
    max_failures: int = 2,
    target_loss: float | None = None,
    price_per_hour: Amount | None = None,
    started: float | None = None,
    console: Console | None = None,
    show: Callable[..., CampaignProgress | CampaignBar] = CampaignProgress,
    make_loggers: Mapping[str, MakeLogger] | None = None,
    command: str = "",
    n_examples: int = 0,
) -> Result:
    """Run a campaign and write its results.

    Args:
        selector: The selector.
        runner: The runner of the trials.
        budget: What the campaign may spend.
        executor: Where the trials are executed; it is closed at the end.
        folder: Output folder.
        settings: The campaign's settings, as they are stored in `selection.json`. A campaign with
            equal settings resumes one that was killed.
        preflight: Whether to exclude candidates that fail to load or do not fit, before spending.
        reuse: Whether to use stored results of the same recipe and data, at no charge.
        prior_curves: Curves of earlier tasks with some of the candidates: a trial store or CSV.
        max_failures: Failed or diverged trials after which a candidate is excluded.
        target_loss: A test loss that is wanted: the answer says how much data it takes.
        price_per_hour: Price of this machine per hour; `None` if it is unknown.
        started: When the campaign began, by `time.monotonic`, for a budget of time; now by default.
        console: Console for the progress; `None` prints nothing.
        show: Makes what shows the progress from console, task, budget, known results and number of
            places: one line per trial, or a bar.
        make_loggers: Makers of loggers of `lensllm.finetune.loggers` by name, for a run of the
            campaign.
        command: The command that repeats the campaign, for the report.
        n_examples: Number of training pairs to show in the report; none by default, since reports
            are shared.

    Returns:
        The result. Of several processes that train together, only the first one writes files.

    Raises:
        ValueError: See `run_campaign`, or the budget is of another unit than the trials' costs.
        NoCandidateError: No candidate can be run.
        StorageError: The output folder or the store cannot be written.
        TrackerError: An experiment tracker could not be started.
    """
    console = console or Console(quiet=True)
    begun = time.monotonic() if started is None else started
    check_writable(folder)
    if preflight:
        with LongWork("looking at the candidates", console):
            refused = runner.inspect(executor.n_here, executor.n_gpus)
        for name, reason in refused.items():
            _tell(console, f"left out {name}: {reason}")
    earlier = PriorCurves.read(prior_curves) if prior_curves else None
    ledger, known = None, []
    resumed: list[TrialResult] = []  # run by this campaign before it was interrupted
    if reuse and runner.store is not None:
        ledger = Ledger(runner.store.folder, campaign_key(runner, settings))
        stored = runner.known()
        known = ledger.open(stored)
        keys = {result.trial.key for result in known}
        resumed = [result for result in stored if result.trial.key not in keys]
    before = sum(result.seconds for result in resumed) / executor.n_workers
    place = price_per_hour, executor.n_workers, begun, before
    limit = budget_of(budget, runner.task(), *place)
    if isinstance(limit, TimeBudget):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # each of which would have its own clock
            raise ValueError(
                f"Expected a budget as a share or in FLOPs where several processes train one "
                f"trial together, got one in {limit.unit}"
            )
        runner.deadline = limit.deadline
        known = [*known, *resumed]
    task, data = runner.task(), runner.data_summary()
    if len(task.candidates) == 1:
        what = f"all that a campaign can do is to forecast its {task.measure.label}"
        _tell(console, one_row(f"{task.names[0]} is the only candidate: {what}"))
    said = [classes_words(data["classes"])] if "classes" in data else []
    if said and task.measure.is_loss:
        said[0] += "; the loss ranks: measure=accuracy ranks by accuracy"
    if earlier is not None:
        said.append(earlier_words(earlier.but(task.dataset), task.names))
    for line in map(one_row, said):
        note(line)
        console.print(line, markup=False, soft_wrap=True)
    if n_examples and (examples := runner.examples(n_examples)):
        data = {**data, "examples": examples}
    makers = make_loggers or {} if is_first_rank() else {}
    tracker = CampaignTracker.begin(makers, selector.name, task, limit, settings, data)
    places = executor.n_workers
    with tracker:
        with closing(executor), show(console, task, limit, known, places) as progress:
            selection, curves = run_campaign(
                selector,
                runner,
                limit,
                _both(progress.update, tracker.on_result),
                executor,
                max_failures,
                known,
                earlier,
                ledger,
                progress.decided,
            )
        task = replace(task, prior_curves=earlier)
        selection = with_data_needs(selection, selector, task, curves, target_loss)
        if price_per_hour is not None:
            price, currency = price_per_hour.value, price_per_hour.unit
            selection = replace(selection, price_per_hour=price, currency=currency)
        if isinstance(limit, TimeBudget):
            selection = _with_costs(selection, resumed, task.full_cost)
        if not is_first_rank():
            return Result(selection, curves, folder)
        paths = write_selection(selection, curves, folder, settings, data, command)
        tracker.finish(selection, curves, paths)
    if ledger is not None:
        ledger.close()
    return Result(selection, curves, folder, paths)


def _tell(console: Console, line: str) -> None:
    """Tell a fact about the candidates; as a warning where no console shows it."""
    note(line)
    console.print(line, markup=False, soft_wrap=True)
    if console.quiet and is_first_rank():
        logger.warning("%s", line)


def _with_costs(
    selection: Selection, resumed: Sequence[TrialResult], full_cost: float
) -> Selection:
    """The answer with the costs of trials that an interrupted run of its campaign has paid for."""
    cost = selection.cost_flops + sum(result.flops for result in resumed)
    return replace(selection, cost_flops=cost, cost_fraction=cost / full_cost)


def _both(
    *watchers: Callable[[TrialResult, Budget], None],
) -> Callable[[TrialResult, Budget], None]:
    """A function that passes a result on to several."""

    def on_result(result: TrialResult, budget: Budget) -> None:
        for watch in watchers:
            watch(result, budget)

    return on_result
