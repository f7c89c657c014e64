"""Judge selectors on recorded curves: python scripts/evaluate_selection.py benchmark=rsl."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.entry import conf_dir, entry_point, output_dir


@dataclass
class EvaluateConfig:
    """Keys of `conf/evaluate.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    datasets: list[str] | None = None
    seeds: list[int] | None = None
    n_resamples: int = 1000
    seed: int = 0
    benchmark: Any = None
    paths: Any = None
    candidates: Any = None
    dataset: Any = None
    optimizer: Any = None
    training: Any = None


@entry_point("evaluate", EvaluateConfig)
def main(cfg: DictConfig) -> None:
    """Evaluate every selector on every data set and budget; write scores and predictions."""
    from lensllm.benchmarks import evaluate
    from lensllm.reporting.console import print_table, wide_console
    from lensllm.reporting.summary import summary_table
    from lensllm.selection.named import named_selectors

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    console = wide_console()
    selectors = named_selectors(values["selectors"], conf_dir() / "selector", values)
    with console.status("evaluating") as status:
        found = evaluate(
            instantiate(cfg.benchmark),
            selectors,
            values["budget_ratios"],
            values["budget_fractions"],
            values["datasets"],
            values["seeds"],
            progress=status.update,
        )
    folder = output_dir()
    found.scores.to_csv(folder / "scores.csv", index=False)
    found.predictions.to_csv(folder / "predictions.csv", index=False)
    summary = summary_table(found.scores, found.predictions, cfg.n_resamples, cfg.seed)
    command = " ".join(["python scripts/evaluate_selection.py", *HydraConfig.get().overrides.task])
    summary = replace(summary, caption=f"{summary.caption} Command: {command}")
    summary.write(folder)
    print_table(summary, console)
    console.print(f"scores.csv, predictions.csv and summary.* are in {folder}")


if __name__ == "__main__":
    main()
