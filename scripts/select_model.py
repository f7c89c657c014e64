"""Which of the candidates to fine-tune: ask, run, rank, report."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from lensllm.entry import BudgetConfig, FineTuneConfig, entry_point, instantiate_runner, output_dir


@dataclass
class ReplayConfig:
    """Which of the recorded curves to replay."""

    dataset: str | None = None
    seed: int | None = None
    models: list[str] | None = None


@dataclass
class SelectConfig(FineTuneConfig):
    """Keys of `conf/select.yaml`."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    preflight: bool = True
    candidates: Any = MISSING
    selector: Any = MISSING
    executor: Any = MISSING
    benchmark: Any = None
    replay: ReplayConfig = field(default_factory=ReplayConfig)


@entry_point("select", SelectConfig)
def main(cfg: DictConfig) -> float:
    """Run one campaign and write what it found."""
    from pytorch_lightning.utilities import rank_zero_only

    from lensllm.finetune.estimate import check_fit
    from lensllm.reporting.console import wide_console
    from lensllm.reporting.progress import CampaignProgress
    from lensllm.reporting.selection_report import (
        selection_sentence,
        selection_table,
        write_selection,
    )
    from lensllm.selection.campaign import make_budget, run_campaign

    console = wide_console()
    console.quiet = rank_zero_only.rank > 0  # of several processes that train together one tells
    selector, executor = instantiate(cfg.selector), instantiate(cfg.executor)
    runner = instantiate_runner(cfg)
    if cfg.preflight and hasattr(runner, "longest"):  # recorded curves need no memory
        check_fit(runner, getattr(executor, "n_workers", 1))
    budget = make_budget(runner.task(), cfg.budget.fraction, cfg.budget.flops)
    with closing(executor):
        selection, curves = run_campaign(
            selector, runner, budget, CampaignProgress(console).update, executor
        )
    if console.quiet:
        return selection.best.predicted_loss
    settings = OmegaConf.to_container(cfg, resolve=True)
    data = runner.data.summary() if hasattr(runner, "data") else {}  # recorded curves have none
    paths = write_selection(selection, curves, output_dir(), settings, data)  # type: ignore[arg-type]
    console.print(selection_table(selection, curves))
    console.print(selection_sentence(selection))
    for kind, path in paths.items():
        console.print(f"{kind}: {path}", soft_wrap=True)
    return selection.best.predicted_loss


if __name__ == "__main__":
    main()
