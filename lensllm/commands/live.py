"""Compare selectors in campaigns that fine-tune."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import LiveConfig
from lensllm.commands.entry import conf_dir, entry_point, instantiate_runner, output_dir
from lensllm.system.harmless import write_csv


@entry_point("live", LiveConfig)
def main(cfg: DictConfig) -> None:
    """Run every selector in every repetition; write each campaign as it ends, then the summary."""
    import numpy as np
    import pandas as pd

    from lensllm.commands.named import named_selectors
    from lensllm.evaluation.cells import random_subsets
    from lensllm.reports.console import print_table, wide_console
    from lensllm.studies.selectors.judging import unseen
    from lensllm.studies.selectors.live import judge_live, summarize_live
    from lensllm.studies.selectors.live_table import live_table

    console = wide_console()
    curves = instantiate(cfg.benchmark).curves
    names = list(cfg.candidates.models)
    rng = np.random.default_rng(cfg.seed)
    sets = [tuple(names), *random_subsets(names, cfg.subset_size, cfg.n_subsets, rng)]
    rows: list[dict[str, Any]] = []
    for seed in cfg.seeds:
        for models in sets:
            own = OmegaConf.merge(cfg, {"seed": seed, "candidates": {"models": list(models)}})
            runner = instantiate_runner(own)  # type: ignore[arg-type]
            task = runner.task()
            at_full = curves[curves["n_samples"] == task.n_samples_full]
            at_full = at_full[at_full["dataset"] == task.dataset]
            truth = at_full.groupby("model")[task.measure.column].mean()
            values: dict[str, Any] = OmegaConf.to_container(own)  # type: ignore[assignment]
            for fraction in cfg.budget_fractions:
                for selector in named_selectors(cfg.selectors, conf_dir() / "selector", values):
                    (honest,) = unseen([selector], task.dataset)
                    row = judge_live(honest, runner, fraction, truth.to_dict())
                    rows.append({"seed": seed, "candidates": " ".join(models), **row})
                    console.print(
                        f"seed {seed}, {len(models)} candidates, {fraction:.0%}: {row['selector']} "
                        f"{row['selected'] or row['status']}, regret {row['regret']:.3f}",
                        soft_wrap=True,
                    )
                    write_csv(pd.DataFrame(rows), output_dir() / "live.csv")
    summary = summarize_live(pd.DataFrame(rows), str(rows[0]["selector"]))
    table = live_table(summary, task.dataset, len(rows))
    table.write(output_dir())
    print_table(table, console)
