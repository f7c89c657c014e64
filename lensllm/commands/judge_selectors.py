"""Selectors judged in many campaigns on recorded curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import JudgeSelectorsConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.system.harmless import write_csv


@entry_point("judge_selectors", JudgeSelectorsConfig)
def main(cfg: DictConfig) -> None:
    """Replay the campaigns; write them, means with intervals, and how far P(best) was true."""
    from lensllm.commands.named import named_selectors
    from lensllm.evaluation.evaluation import with_prior_curves
    from lensllm.predictors import load_prior
    from lensllm.studies.selectors.calibration_figure import calibration_figure
    from lensllm.studies.selectors.judging import judge, reliability, summarize

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)

    def selectors(dataset: str) -> list[Any]:
        found: list[Any] = named_selectors(values["selectors"], conf_dir() / "selector", values)
        others = benchmark.curves[benchmark.curves["dataset"] != dataset]
        unseen = load_prior().without({dataset})
        ready = []
        for item in found:
            predictor: Any = getattr(item, "predictor", None)
            if hasattr(predictor, "prior"):
                item = replace(item, predictor=replace(predictor, prior=unseen))
            ready.append(with_prior_curves(item, others) if cfg.earlier_tasks else item)
        return ready

    rows = judge(
        benchmark,
        selectors,
        cfg.budget_fractions,
        values["set_sizes"],
        cfg.n_sets,
        cfg.seed,
        progress=lambda name: print(name, flush=True),
    )
    write_csv(rows, output_dir() / "campaigns.csv")
    first = str(rows["selector"].iloc[0])
    for metric in ("regret", "relative_regret"):
        summary = summarize(rows, metric, first)
        write_csv(summary, output_dir() / f"{metric}.csv")
        print(f"\n{metric}\n{summary.to_string(index=False, float_format='{:.4f}'.format)}")
    bins = reliability(rows, ["selector"])
    write_csv(bins, output_dir() / "reliability.csv")
    own = rows[(rows["selector"] == first) & rows["p_best"].notna()]
    if len(own):
        calibration_figure(own).savefig(output_dir() / "calibration.png", dpi=150)
    print(f"\nP(best)\n{bins.to_string(index=False, float_format='{:.3f}'.format)}")
