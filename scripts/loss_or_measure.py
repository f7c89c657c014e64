"""Rank the zoo for accuracy by loss and by accuracy (docs/measures.md).

    python scripts/loss_or_measure.py --folder outputs/loss_or_measure

First: lensllm fetch dataset=senses, and dataset=sections. Trials are kept in the folder's store;
curves and table are written as they come.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from lensllm.core.trials import Trial, TrialStore
from lensllm.data import load_fetched
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune.measuring import MeasuringSettings
from lensllm.finetune.module import warmup_schedule
from lensllm.finetune.settings import TrainingSettings
from lensllm.studies.selectors.loss_or_measure import (
    compare_criteria,
    criteria_table,
    most_frequent_labels,
)
from lensllm.zoo import zoo_models


def make_runner(name: str, options: argparse.Namespace) -> FineTuneRunner:
    """The runner of one task, with all models of the zoo."""
    data = load_fetched(
        name=name,
        cache_dir=options.cache_dir,
        n_validation=400,
        n_test=1600,
        max_input_tokens=40,
        max_target_tokens=12,
    )
    trainer = {"accelerator": "cpu", "devices": 1, "gradient_clip_val": 1.0}
    trainer |= {"deterministic": True, "enable_progress_bar": False}
    return FineTuneRunner(
        list(zoo_models()),
        most_frequent_labels(data, options.n_labels),
        partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01, fused=True),
        partial(warmup_schedule, name="linear", warmup_fraction=0.1),
        partial(pl.Trainer, **trainer),
        TrainingSettings(evaluation_batch_size=128),
        TrialStore(options.folder / "trials"),
        n_samples_full=max(options.sizes),
        sizes=options.sizes,
        measure="accuracy",
        measuring=MeasuringSettings(also=["f1"], share=None),
        checkpoint_minutes=None,
    )


def main() -> None:
    """Run the trials that are missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/loss_or_measure"))
    parser.add_argument("--cache-dir", default=str(Path.home() / ".cache" / "lensllm"))
    parser.add_argument("--n-labels", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400, 800, 1600, 3200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    runners = [make_runner(name, options) for name in ("senses", "sections")]
    store = runners[0].store
    for seed in options.seeds:
        for n_samples in options.sizes:
            for runner in runners:
                for name in runner.sources:
                    runner.attempt(Trial(name, runner.data.name, n_samples, seed))
                curves = store.curves()
                curves.to_csv(options.folder / "curves.csv", index=False)
                table = criteria_table(compare_criteria(curves))
                (options.folder / "table.md").write_text(table, encoding="utf-8")
    print((options.folder / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
