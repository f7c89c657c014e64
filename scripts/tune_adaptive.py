"""Choose how the adaptive selector starts and stops: python -m scripts.tune_adaptive."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.config import TuneAdaptiveConfig
from lensllm.entry import conf_dir, entry_point, output_dir
from lensllm.harmless import write_csv
from lensllm.limits import load_yaml
from lensllm.targets import check_targets


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
    base = load_yaml(conf_dir() / "selector" / "adaptive.yaml")
    path = values["predictor_choices"]
    fitted = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    predictors = {name: {"predictor": {"settings": own}} for name, own in fitted.items()}

    def build(settings: Mapping[str, Any]) -> Any:
        config = OmegaConf.merge(base, dict(settings))
        check_targets(config, cfg.allowed_targets)  # a file of predictor_choices is in it
        return instantiate(config, _convert_="all")

    chosen = values["chosen"]
    if chosen is None:
        judge = choosing_judge(
            build, values["budget_fractions"], cfg.n_subsets, cfg.subset_size, cfg.seed
        )
        found = tune(benchmark, values["settings"], judge, predictors, progress=console.print)
        write_csv(found.scores, output_dir() / "settings.csv")
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
            write_csv(pd.concat(scores), output_dir() / "scores.csv")
            write_csv(pd.concat(predictions), output_dir() / "predictions.csv")
    first = values["judged_seeds"][0]
    table = summary_table(
        *(rows[rows["draws"] == first] for rows in (pd.concat(scores), pd.concat(predictions)))
    )
    table.write(output_dir())
    print_table(table, console)


if __name__ == "__main__":
    main()
