"""Which of the candidates to fine-tune: ask, run, rank, report."""

from __future__ import annotations

from contextlib import closing

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import SelectConfig
from lensllm.commands.entry import entry_point, instantiate_runner, output_dir
from lensllm.system.harmless import stored_settings
from lensllm.system.interrupts import is_first_rank


@entry_point("select", SelectConfig)
def main(cfg: DictConfig) -> float:
    """Run one campaign and write its results."""
    from lensllm.core.prior_curves import PriorCurves
    from lensllm.core.task import NoCandidateError
    from lensllm.reports.console import wide_console
    from lensllm.reports.progress import CampaignProgress
    from lensllm.reports.selection_report import (
        selection_sentence,
        selection_table,
        write_selection,
    )
    from lensllm.selectors.campaign import make_budget, run_campaign
    from lensllm.selectors.known_trials import Ledger, campaign_key
    from lensllm.system.atomic import check_writable

    console = wide_console()
    console.quiet = not is_first_rank()  # only one of several processes of a trial prints
    selector, executor = instantiate(cfg.selector), instantiate(cfg.executor)
    runner = instantiate_runner(cfg)
    check_writable(output_dir())
    if cfg.preflight:
        for name, reason in runner.inspect(executor.n_here).items():
            console.print(f"left out {name}: {reason}", markup=False, soft_wrap=True)
    prior_curves = PriorCurves.read(cfg.prior_curves) if cfg.prior_curves else None
    budget = make_budget(runner.task(), cfg.budget.fraction, cfg.budget.flops)
    ledger, known = None, []
    if cfg.reuse and runner.store is not None:
        ledger = Ledger(runner.store.folder, campaign_key(runner, stored_settings(cfg)))
        known = ledger.open(runner.known())
    with closing(executor):
        selection, curves = run_campaign(
            selector,
            runner,
            budget,
            CampaignProgress(console, runner.task().measure).update,
            executor,
            cfg.max_failures,
            known,
            prior_curves,
            ledger,
        )
    if console.quiet:
        return selection.best.predicted_loss
    settings = stored_settings(cfg)
    data = runner.data_summary()
    paths = write_selection(selection, curves, output_dir(), settings, data)
    if ledger is not None:
        ledger.close()
    console.print(selection_table(selection, curves))
    console.print(selection_sentence(selection))
    for kind, path in paths.items():
        console.print(f"{kind}: {path}", soft_wrap=True)
    if selection.best.status != "ranked":
        failures = {entry.model: entry.status for entry in selection.ranking}
        raise NoCandidateError(selection.dataset, failures)
    return selection.best.predicted_loss
