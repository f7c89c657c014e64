"""Selectors in many small campaigns on recorded curves: python -m scripts.study_campaigns."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.entry import conf_dir, entry_point, output_dir


@dataclass
class StudyCampaignsConfig:
    """Keys of `conf/study_campaigns.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    n_sets: int = 10
    set_size: int = 8
    seed: int = 0
    earlier_tasks: bool = False
    predictor_choices: str | None = None
    benchmark: Any = None
    paths: Any = None


@entry_point("study_campaigns", StudyCampaignsConfig)
def main(cfg: DictConfig) -> None:
    """Run the campaigns of every data set and target; write them and their summary."""
    import pandas as pd

    from lensllm.benchmarks.choosing import campaigns, random_sets, summarize_campaigns
    from lensllm.selection.named import named_selectors

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)
    path = cfg.predictor_choices
    choices = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    sets = random_sets(benchmark.curves["model"].unique(), cfg.n_sets, cfg.set_size, cfg.seed)
    rows = []
    for dataset, curves in benchmark.curves.groupby("dataset"):
        selectors = named_selectors(values["selectors"], conf_dir() / "selector", values)
        if dataset in choices:
            selectors = [_with_settings(item, choices[dataset]) for item in selectors]
        for target in cfg.targets:
            seen = benchmark.curves if cfg.earlier_tasks else curves
            own = replace(benchmark, curves=seen, target_n_samples=target)
            rows.append(campaigns(own, selectors, cfg.budget_fractions, sets, [str(dataset)]))
            pd.concat(rows).to_csv(output_dir() / "campaigns.csv", index=False)
    found = pd.concat(rows, ignore_index=True)
    for name, part in [
        ("all", found),
        *found.groupby("dataset"),
        *found.groupby("budget_fraction"),
    ]:
        summary = summarize_campaigns(part, selectors[0].name)
        summary.to_csv(output_dir() / f"summary_{name}.csv", index=False)
        print(f"\n{name}\n{summary.to_string(index=False, float_format='{:.3f}'.format)}")


def _with_settings(selector: Any, settings: dict[str, Any]) -> Any:
    """A selector whose predictor, if it has one with settings, has these as well."""
    predictor = getattr(selector, "predictor", None)
    if predictor is None:
        return selector
    own = replace(predictor, settings=replace(predictor.settings, **settings))
    return replace(selector, predictor=own)


if __name__ == "__main__":
    main()
