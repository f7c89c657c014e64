"""Which of the candidates to fine-tune: ask, run, rank, report."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from contextlib import closing

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.config import SelectConfig
from lensllm.entry import entry_point, instantiate_runner, output_dir
from lensllm.harmless import stored_settings


@entry_point("select", SelectConfig)
def main(cfg: DictConfig) -> float:
    """Run one campaign and write what it found."""
    from pytorch_lightning.utilities import rank_zero_only

    from lensllm.atomic import check_writable
    from lensllm.reporting.console import wide_console
    from lensllm.reporting.progress import CampaignProgress
    from lensllm.reporting.selection_report import (
        selection_sentence,
        selection_table,
        write_selection,
    )
    from lensllm.selection.base import NoCandidateError
    from lensllm.selection.campaign import make_budget, run_campaign
    from lensllm.selection.ledger import Ledger, campaign_key

    console = wide_console()
    console.quiet = rank_zero_only.rank > 0  # of several processes that train together one tells
    selector, executor = instantiate(cfg.selector), instantiate(cfg.executor)
    runner = instantiate_runner(cfg)
    check_writable(output_dir())
    if cfg.preflight and hasattr(runner, "inspect"):  # recorded curves have no weights
        for name, reason in runner.inspect(getattr(executor, "n_workers", 1)).items():
            console.print(f"left out {name}: {reason}", markup=False, soft_wrap=True)
    budget = make_budget(runner.task(), cfg.budget.fraction, cfg.budget.flops)
    ledger, known = None, []
    if cfg.reuse and hasattr(runner, "known"):
        ledger = Ledger(runner.store.folder, campaign_key(runner, stored_settings(cfg)))
        known = ledger.open(runner.known())
    with closing(executor):
        selection, curves = run_campaign(
            selector,
            runner,
            budget,
            CampaignProgress(console).update,
            executor,
            cfg.max_failures,
            known,
        )
    if console.quiet:
        return selection.best.predicted_loss
    settings, data = stored_settings(cfg), {}
    if hasattr(runner, "data"):  # recorded curves have none
        settings, data = {**settings, "rank_by": runner.unit}, runner.data_summary()
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


if __name__ == "__main__":
    main()
