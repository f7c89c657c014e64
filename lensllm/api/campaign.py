"""A whole campaign: inspect the candidates, run trials within a budget, rank, and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from lensllm.api.result import Result
from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Executor, Runner
from lensllm.core.task import Budget, Task
from lensllm.core.trials import TrialResult
from lensllm.finetune.trackers import MakeLogger
from lensllm.reports.campaign_tracking import CampaignTracker
from lensllm.reports.progress import CampaignProgress
from lensllm.reports.selection_report import write_selection
from lensllm.selectors.base import Selector
from lensllm.selectors.campaign import run_campaign
from lensllm.selectors.known_trials import Ledger, campaign_key
from lensllm.system.atomic import check_writable
from lensllm.system.interrupts import is_first_rank
from lensllm.system.progress import note


def run_selection(
    selector: Selector,
    runner: Runner,
    budget: Callable[[Task], Budget],
    executor: Executor,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    preflight: bool = True,
    reuse: bool = True,
    prior_curves: str | Path | None = None,
    max_failures: int = 2,
    console: Console | None = None,
    make_loggers: Mapping[str, MakeLogger] | None = None,
) -> Result:
    """Run a campaign and write its results.

    Args:
        selector: The selector.
        runner: The runner of the trials.
        budget: Makes the budget from the task, whose costs are known once the candidates were
            inspected.
        executor: Where the trials are executed; it is closed at the end.
        folder: Output folder.
        settings: The campaign's settings, as they are stored in `selection.json`. A campaign with
            equal settings resumes one that was killed.
        preflight: Whether to exclude candidates that fail to load or do not fit, before spending.
        reuse: Whether to use stored results of the same recipe and data, at no charge.
        prior_curves: Curves of earlier tasks with some of the candidates: a trial store or CSV.
        max_failures: Failed or diverged trials after which a candidate is excluded.
        console: Console for one line per trial; `None` prints nothing.
        make_loggers: Makers of loggers of `lensllm.finetune.loggers` by name, for a run of the
            campaign.

    Returns:
        The result. Of several processes that train together, only the first one writes files.

    Raises:
        ValueError: See `run_campaign`.
        NoCandidateError: No candidate can be run.
        StorageError: The output folder or the store cannot be written.
        TrackerError: An experiment tracker could not be started.
    """
    console = console or Console(quiet=True)
    check_writable(folder)
    if preflight:
        for name, reason in runner.inspect(executor.n_workers, executor.n_gpus).items():
            note(line := f"left out {name}: {reason}")
            console.print(line, markup=False, soft_wrap=True)
    earlier = PriorCurves.read(prior_curves) if prior_curves else None
    limit = budget(runner.task())
    ledger, known = None, []
    if reuse and runner.store is not None:
        ledger = Ledger(runner.store.folder, campaign_key(runner, settings))
        known = ledger.open(runner.known())
    task, data = runner.task(), runner.data_summary()
    makers = make_loggers or {} if is_first_rank() else {}
    tracker = CampaignTracker.begin(makers, selector.name, task, limit, settings, data)
    with tracker:
        with closing(executor), CampaignProgress(console, task, limit, known) as progress:
            selection, curves = run_campaign(
                selector,
                runner,
                limit,
                _both(progress.update, tracker.on_result),
                executor,
                max_failures,
                known,
                earlier,
            )
        if not is_first_rank():
            return Result(selection, curves, folder)
        paths = write_selection(selection, curves, folder, settings, data)
        tracker.finish(selection, curves, paths)
    if ledger is not None:
        ledger.close()
    return Result(selection, curves, folder, paths)


def _both(
    *watchers: Callable[[TrialResult, Budget], None],
) -> Callable[[TrialResult, Budget], None]:
    """A function that passes a result on to several."""

    def on_result(result: TrialResult, budget: Budget) -> None:
        for watch in watchers:
            watch(result, budget)

    return on_result
