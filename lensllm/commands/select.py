"""Which of the candidates to fine-tune: ask, run, rank, report."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import SelectConfig
from lensllm.commands.entry import (
    began,
    budget_amount,
    command_line,
    entry_point,
    instantiate_loggers,
    instantiate_runner,
    load_data,
    output_dir,
)
from lensllm.core.amounts import read_price
from lensllm.system.harmless import stored_settings
from lensllm.system.interrupts import is_first_rank
from lensllm.system.progress import note

if TYPE_CHECKING:
    from lensllm.api.result import Result


@entry_point("select", SelectConfig)
def main(cfg: DictConfig) -> float:
    """Run one campaign, write its results, and print them."""
    from lensllm.api.campaign import run_selection
    from lensllm.reports.console import wide_console
    from lensllm.reports.selection_report import selection_table

    console = wide_console()
    console.quiet = not is_first_rank()  # only one of several processes of a trial prints
    selector, executor = instantiate(cfg.selector), instantiate(cfg.executor)
    runner = instantiate_runner(cfg)
    replays = "data" not in cfg.runner  # and needs no run of a tracker
    makers = {} if replays else instantiate_loggers(cfg, load_data(cfg).name)
    result = run_selection(
        selector,
        runner,
        budget_amount(cfg),
        executor,
        output_dir(),
        stored_settings(cfg),
        **campaign_options(cfg),
        started=began(),
        console=console,
        make_loggers=makers,
        command=command_line("select"),
        n_examples=cfg.report.examples,
    )
    if result.paths:
        if result.selection.best.status == "ranked":
            console.print(selection_table(result.selection, result.curves))
            for line in result.answer.lines:
                console.print(line)
                note(line)
        for kind, path in result.paths.items():
            console.print(f"{kind}: {path}", soft_wrap=True)
        _ = result.best  # an error where no candidate could be ranked
        if hasattr(runner, "keep"):  # and so can fine-tune a model that stays
            console.print(finetune_command(result), markup=False, soft_wrap=True)
    return result.selection.best.predicted_loss


def finetune_command(result: Result) -> str:
    """The command that fine-tunes the chosen model, or the first two if only that tells more."""
    from lensllm.reports.answer import is_to_confirm

    words = [
        "lensllm",
        "finetune",
        f"selection={result.paths['selection'].parent}",
        "output=my-tuned-model",
    ]
    if is_to_confirm(result.selection, result.curves):
        words.append("confirm=2")
    return f"to fine-tune it on all the data: {shlex.join(words)}"


def campaign_options(cfg: DictConfig) -> dict[str, Any]:
    """The keywords of `lensllm.api.campaign.run_selection` that are settings of the command."""
    names = ("preflight", "reuse", "prior_curves", "max_failures", "target_loss")
    price = cfg.price_per_hour
    return {
        **{name: cfg[name] for name in names},
        "price_per_hour": None if price is None else read_price(price),
    }
