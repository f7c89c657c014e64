"""Choose settings by leave-one-data-set-out cross-validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import TuneConfig
from lensllm.commands.entry import entry_point
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import safe_name, write_csv
from lensllm.system.limits import load_yaml


@entry_point("tune", TuneConfig)
def main(cfg: DictConfig) -> None:
    """Choose settings, evaluate them on the data sets left out, and write both."""
    from lensllm.core.prior_curves import PriorCurves
    from lensllm.evaluation import evaluate
    from lensllm.reports.console import print_table, wide_console
    from lensllm.selectors import AcceptThenStop
    from lensllm.studies.selectors.tuned import JUDGES, judge_choices
    from lensllm.studies.selectors.tuning import sample_settings, tune
    from lensllm.studies.selectors.tuning_report import Example, write_tuning_report
    from lensllm.system.progress import LongWork

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)
    known = sorted(path.stem for path in (conf_dir() / "selector").glob("*.yaml"))
    if cfg.selector not in known:
        raise ValueError(f"Expected selector among {', '.join(known)}, got {cfg.selector!r}")
    base = load_yaml(conf_dir() / "selector" / f"{cfg.selector}.yaml")

    def build(settings: Mapping[str, Any]) -> Any:
        chosen = {"predictor": {"settings": dict(settings)}}
        return instantiate(OmegaConf.merge(base, chosen), _convert_="all")

    console = wide_console()
    choices: dict[str, dict[str, Any]] = {}
    folder = Path(HydraConfig.get().runtime.output_dir)
    for number, stage in enumerate(values["stages"], start=1):
        grid = sample_settings(stage["search"], values["n_settings"], values["seed"])
        asked = (stage.get(key, values[key]) for key in ("budget_ratios", "targets"))
        make_judge: Any = JUDGES[stage["by"]]
        judge = make_judge(build, *asked)
        with LongWork(f"stage {number}") as work:
            found = tune(benchmark, grid, judge, choices, progress=work)
        write_csv(found.scores, folder / f"stage_{number}.csv")
        write_whole(folder / f"stage_{number}.json", json.dumps(grid, indent=2) + "\n")
        choices = {name: {**choices.get(name, {}), **found.choice(name)} for name in found.chosen}
    write_whole(folder / "choices.json", json.dumps(choices, indent=2) + "\n")
    console.print_json(json.dumps(choices))
    judged = judge_choices(
        benchmark, choices, build, values["budget_ratios"], values["judged_targets"]
    )
    write_csv(judged.scores, folder / "scores.csv")
    write_csv(judged.predictions, folder / "predictions.csv")
    for label, calibration in judged.calibrations.items():
        write_csv(calibration.candidates, folder / f"calibration_{safe_name(str(label))}.csv")
    baseline = evaluate(benchmark, [AcceptThenStop()], values["budget_ratios"])
    first = benchmark.datasets[0]
    prior = PriorCurves(benchmark.curves[benchmark.curves["dataset"] != first])
    example = Example(benchmark.runner(first), build(choices[first]).predictor, prior)
    for table in write_tuning_report(judged, baseline.scores, example, folder):
        print_table(table, console)
    console.print(f"choices.json, scores.csv, predictions.csv and tables are in {folder}")
