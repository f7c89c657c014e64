"""Estimate a campaign's memory, FLOPs, time and money before anything is spent."""

from __future__ import annotations

import json
from math import isfinite

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import EstimateConfig
from lensllm.commands.entry import (
    budget_amount,
    entry_point,
    instantiate_finetune_runner,
    output_dir,
)
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact


@entry_point("estimate", EstimateConfig)
def main(cfg: DictConfig) -> None:
    """Print the estimate and write it to `estimate.json`."""
    from lensllm.commands.smallest_budget import smallest_budgets
    from lensllm.finetune.estimate import as_record, estimate_campaign
    from lensllm.reports.console import wide_console
    from lensllm.reports.estimate_table import (
        estimate_sentence,
        estimate_table,
        smallest_sentence,
    )
    from lensllm.selectors.time_budget import budget_of

    console = wide_console()
    runner, hardware = instantiate_finetune_runner(cfg), instantiate(cfg.hardware)
    estimates = estimate_campaign(runner, hardware)
    budget = budget_of(hardware.as_flops(budget_amount(cfg)), runner.task())
    smallest = smallest_budgets(runner.task(), conf_dir() / "selector")
    record = as_record(estimates, hardware, budget.flops)
    record["smallest_budgets"] = {k: v if isfinite(v) else None for k, v in smallest.items()}
    path = output_dir() / "estimate.json"
    write_whole(path, json.dumps(redact(record), indent=1) + "\n")
    console.print(estimate_table(estimates, hardware))
    console.print(estimate_sentence(estimates, hardware, budget.flops))
    console.print(smallest_sentence(smallest, runner.task().full_cost, budget.flops))
    console.print(f"json: {path}", soft_wrap=True)
