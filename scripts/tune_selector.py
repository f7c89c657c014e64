"""Choose settings on all data sets but the judged one: python -m scripts.tune_selector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.entry import conf_dir, entry_point


@dataclass
class TuneConfig:
    """Keys of `conf/tune.yaml`."""

    selector: str = "pooled_fit"
    budget_ratios: list[int] = field(default_factory=list)
    targets: list[int | None] = field(default_factory=list)
    judged_targets: list[int | None] = field(default_factory=list)
    n_settings: int = 64
    seed: int = 0
    ranking: dict[str, list[Any]] = field(default_factory=dict)
    spread: dict[str, list[Any]] = field(default_factory=dict)
    benchmark: Any = None
    paths: Any = None


@entry_point("tune", TuneConfig)
def main(cfg: DictConfig) -> None:
    """Choose settings, judge them where they were not chosen, and write both."""
    from lensllm.benchmarks.tuned import judge_choices, ranking_judge, spread_judge
    from lensllm.benchmarks.tuning import sample_settings, tune
    from lensllm.reporting.console import wide_console

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)
    base = OmegaConf.load(conf_dir() / "selector" / f"{cfg.selector}.yaml")

    def build(settings: Mapping[str, Any]) -> Any:
        chosen = {"predictor": {"settings": dict(settings)}}
        return instantiate(OmegaConf.merge(base, chosen), _convert_="all")

    console, choices = wide_console(), {}
    folder = Path(HydraConfig.get().runtime.output_dir)
    for stage, judge in (("ranking", ranking_judge), ("spread", spread_judge)):
        grid = sample_settings(values[stage], values["n_settings"], values["seed"])
        scored = judge(build, values["budget_ratios"], values["targets"])
        with console.status(stage) as status:
            found = tune(benchmark, grid, scored, choices, progress=status.update)
        found.scores.to_csv(folder / f"{stage}.csv", index=False)
        choices = {name: {**choices.get(name, {}), **found.choice(name)} for name in found.chosen}
        (folder / "choices.json").write_text(json.dumps(choices, indent=2) + "\n")
        console.print_json(json.dumps(choices))
    judged = judge_choices(
        benchmark, choices, build, values["budget_ratios"], values["judged_targets"]
    )
    judged.scores.to_csv(folder / "scores.csv", index=False)
    judged.predictions.to_csv(folder / "predictions.csv", index=False)
    for label, calibration in judged.calibrations.items():
        calibration.candidates.to_csv(folder / f"calibration_{label}.csv", index=False)
    metrics = ["pearson", "relative_accuracy", "log_rmse", "coverage80"]
    means = judged.scores.groupby(["settings", "target_n_samples", "dataset"])[metrics].mean()
    console.print(means.round(3).to_string())
    console.print(f"choices.json, scores.csv, predictions.csv and calibration_*.csv: {folder}")


if __name__ == "__main__":
    main()
