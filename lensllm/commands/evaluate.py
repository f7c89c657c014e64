"""Evaluate selectors on recorded curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import EvaluateConfig
from lensllm.commands.entry import command_line, entry_point, output_dir
from lensllm.system.harmless import write_csv


@entry_point("evaluate", EvaluateConfig)
def main(cfg: DictConfig) -> None:
    """Evaluate every selector on every data set and budget; write scores and predictions."""
    from lensllm.commands.named import named_selectors
    from lensllm.core.measures import measure_named
    from lensllm.evaluation import evaluate
    from lensllm.reports.console import print_table, wide_console
    from lensllm.reports.summary import summary_table
    from lensllm.system.progress import LongWork

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    console = wide_console()
    selectors = named_selectors(values["selectors"], conf_dir() / "selector", values)
    with LongWork("evaluating") as work:
        found = evaluate(
            instantiate(cfg.benchmark),
            selectors,
            values["budget_ratios"],
            values["budget_fractions"],
            values["datasets"],
            values["seeds"],
            progress=work,
        )
    folder = output_dir()
    write_csv(found.scores, folder / "scores.csv")
    write_csv(found.predictions, folder / "predictions.csv")
    unit = measure_named(cfg.measure).unit
    summary = summary_table(found.scores, found.predictions, cfg.n_resamples, cfg.seed, unit)
    summary = replace(summary, caption=f"{summary.caption} Command: {command_line('evaluate')}")
    summary.write(folder)
    print_table(summary, console)
    console.print(f"scores.csv, predictions.csv and summary.* are in {folder}")
