"""Trials from the weights of a smaller one of their candidate (docs/results/takeover.md).

    python -m scripts.takeover --folder outputs/takeover

First: lensllm fetch dataset=sections. Trials and their weights are kept in the folder's store; the
losses are written as they come, forecasts and table after each seed of a task.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate

from lensllm.commands.keywords import configure
from lensllm.core.trials import TrialStore
from lensllm.data.pairs import TextData
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings
from lensllm.studies.takeover.comparison import (
    compare_forecasts,
    compare_points,
    relative_cost,
)
from lensllm.studies.takeover.report import takeover_table
from lensllm.studies.takeover.trials import TAKEOVERS, MakeRunner, run_ways
from lensllm.zoo import zoo_models


def runner_maker(cfg: Any, folder: Path) -> MakeRunner:
    """Makes runners with the optimizer, schedule and trainer of a configuration."""

    def make(
        sources: Sequence[ModelSource], data: TextData, settings: TrainingSettings
    ) -> FineTuneRunner:
        return FineTuneRunner(
            sources,
            data,
            instantiate(cfg.optimizer),
            instantiate(cfg.scheduler),
            instantiate(cfg.trainer),
            settings,
            TrialStore(folder),
            keep_weights="all",
            checkpoint_minutes=None,
        )

    return make


def main() -> None:
    """Run the trials that are missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/takeover"))
    parser.add_argument("--datasets", nargs="+", default=["sections", "names"])
    parser.add_argument("--models", nargs="+", default=zoo_models())
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    names = [takeover.name for takeover in TAKEOVERS]
    parser.add_argument("--ways", nargs="*", default=names, choices=names, help="of taking over")
    args = parser.parse_args()
    ways = [takeover for takeover in TAKEOVERS if takeover.name in args.ways]
    args.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for name in args.datasets:
            cfg, _ = configure("train", {"dataset": name, "enable_progress_bar": False})
            data = instantiate(cfg.dataset, _convert_="all")
            make, settings = runner_maker(cfg, args.folder / "trials"), instantiate(cfg.training)
            for model in args.models:
                for row in run_ways(
                    make, data, ModelSource(model), settings, args.sizes, seed, ways
                ):
                    rows.append(row)
                    pd.DataFrame(rows).to_csv(args.folder / "losses.csv", index=False)
            losses = pd.DataFrame(rows)
            forecasts = compare_forecasts(losses)
            forecasts.to_csv(args.folder / "forecasts.csv", index=False)
            table = takeover_table(compare_points(losses), forecasts, relative_cost(losses))
            (args.folder / "table.md").write_text(table, encoding="utf-8")
            print(table, flush=True)


if __name__ == "__main__":
    main()
