"""Choose how the adaptive selector starts and stops: python -m scripts.tune_adaptive."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.entry import conf_dir, entry_point, output_dir


@dataclass
class TuneAdaptiveConfig:
    """Keys of `conf/tune_adaptive.yaml`."""

    settings: list[Any] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    judged_fractions: list[float] = field(default_factory=list)
    judged_seeds: list[int] = field(default_factory=list)
    n_subsets: int = 0
    subset_size: int = 0
    seed: int = 0
    predictor_choices: str | None = None
    baselines: list[Any] = field(default_factory=list)
    chosen: Any = None
    benchmark: Any = None
    paths: Any = None


@entry_point("tune_adaptive", TuneAdaptiveConfig)
def main(cfg: DictConfig) -> None:
    """Choose settings without each data set, judge them there, and write both."""
    import pandas as pd

    from lensllm.benchmarks import evaluate
    from lensllm.benchmarks.choosing import choosing_judge
    from lensllm.benchmarks.tuning import tune
    from lensllm.reporting.console import print_table, wide_console
    from lensllm.reporting.summary import summary_table
    from lensllm.selection.named import named_selectors

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    console, benchmark = wide_console(), instantiate(cfg.benchmark)
    base = OmegaConf.load(conf_dir() / "selector" / "adaptive.yaml")
    path = values["predictor_choices"]
    fitted = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    predictors = {name: {"predictor": {"settings": own}} for name, own in fitted.items()}

    def build(settings: Mapping[str, Any]) -> Any:
        return instantiate(OmegaConf.merge(base, dict(settings)), _convert_="all")

    chosen = values["chosen"]
    if chosen is None:
        judge = choosing_judge(
            build, values["budget_fractions"], cfg.n_subsets, cfg.subset_size, cfg.seed
        )
        found = tune(benchmark, values["settings"], judge, predictors, progress=console.print)
        found.scores.to_csv(output_dir() / "settings.csv", index=False)
        chosen = found.chosen
    (output_dir() / "chosen.json").write_text(json.dumps(chosen, indent=2) + "\n")
    scores, predictions = [], []
    for dataset in benchmark.datasets:
        own = {**predictors.get(dataset, {}), **values["settings"][chosen[dataset]]}
        for seed in values["judged_seeds"]:
            judged = [build({**own, "seed": seed})]
            if seed == values["judged_seeds"][0]:
                judged += named_selectors(values["baselines"], conf_dir() / "selector", values)
            done = evaluate(benchmark, judged, (), values["judged_fractions"], [dataset])
            scores.append(done.scores.assign(draws=seed))
            predictions.append(done.predictions.assign(draws=seed))
            pd.concat(scores).to_csv(output_dir() / "scores.csv", index=False)
            pd.concat(predictions).to_csv(output_dir() / "predictions.csv", index=False)
    first = values["judged_seeds"][0]
    table = summary_table(
        *(rows[rows["draws"] == first] for rows in (pd.concat(scores), pd.concat(predictions)))
    )
    table.write(output_dir())
    print_table(table, console)


if __name__ == "__main__":
    main()
