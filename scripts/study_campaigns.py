"""Selectors in many small campaigns on recorded curves: python -m scripts.study_campaigns."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.config import StudyCampaignsConfig
from lensllm.entry import conf_dir, entry_point, output_dir
from lensllm.harmless import safe_name, write_csv


@entry_point("study_campaigns", StudyCampaignsConfig)
def main(cfg: DictConfig) -> None:
    """Run the campaigns of every data set and target; write them and their summary."""
    import pandas as pd

    from lensllm.benchmarks.choosing import campaigns, random_sets, summarize_campaigns
    from lensllm.reporting.console import say
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
            write_csv(pd.concat(rows), output_dir() / "campaigns.csv")
    found = pd.concat(rows, ignore_index=True)
    for name, part in [
        ("all", found),
        *found.groupby("dataset"),
        *found.groupby("budget_fraction"),
    ]:
        summary = summarize_campaigns(part, selectors[0].name)
        write_csv(summary, output_dir() / f"summary_{safe_name(str(name))}.csv")
        say(f"\n{name}\n{summary.to_string(index=False, float_format='{:.3f}'.format)}")


def _with_settings(selector: Any, settings: dict[str, Any]) -> Any:
    """A selector whose predictor, if it has one with settings, has these as well."""
    predictor = getattr(selector, "predictor", None)
    if predictor is None:
        return selector
    own = replace(predictor, settings=replace(predictor.settings, **settings))
    return replace(selector, predictor=own)


if __name__ == "__main__":
    main()
