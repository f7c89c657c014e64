"""Evaluate selectors in many campaigns on recorded curves."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import JudgeSelectorsConfig
from lensllm.commands.entry import conf_dir, entry_point, output_dir
from lensllm.system.harmless import write_csv


@entry_point("judge_selectors", JudgeSelectorsConfig)
def main(cfg: DictConfig) -> None:
    """Replay the campaigns; write them, means with intervals, and the calibration of P(best)."""
    from lensllm.commands.named import named_selectors
    from lensllm.evaluation import evaluate
    from lensllm.evaluation.statistics import reliability
    from lensllm.reports.style import save
    from lensllm.studies.selectors.calibration_figure import calibration_figure
    from lensllm.studies.selectors.judging import P_EDGES, campaigns, coverage, summarize, unseen
    from lensllm.system.progress import LongWork

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)

    def selectors(dataset: str) -> list[Any]:
        found = named_selectors(values["selectors"], conf_dir() / "selector", values)
        return unseen(found, dataset)

    with LongWork("judging") as work:
        found = evaluate(
            benchmark,
            selectors,
            budget_ratios=(),
            budget_fractions=values["budget_fractions"],
            progress=work,
            set_sizes=values["set_sizes"],
            n_sets=cfg.n_sets,
            set_seed=cfg.seed,
            earlier_tasks=cfg.earlier_tasks,
        )
    rows = campaigns(found.scores)
    write_csv(rows, output_dir() / "campaigns.csv")
    first = str(rows["selector"].iloc[0])
    for metric in ("regret", "relative_regret"):
        summary = summarize(rows, metric, first)
        write_csv(summary, output_dir() / f"{metric}.csv")
        print(f"\n{metric}\n{summary.to_string(index=False, float_format='{:.4f}'.format)}")
    bins = reliability(rows, P_EDGES, by=["selector"])
    write_csv(bins, output_dir() / "reliability.csv")
    sizes = rows.assign(n_sizes=rows["n_sizes"].clip(upper=3))  # 3 stands for 3 and more
    by_size = reliability(sizes, P_EDGES, by=["selector", "n_sizes"])
    write_csv(by_size, output_dir() / "reliability_by_size.csv")
    write_csv(coverage(rows), output_dir() / "coverage.csv")
    own = rows[(rows["selector"] == first) & rows["p_best"].notna()]
    if len(own):
        save(calibration_figure(own), output_dir() / "calibration.png")
    print(f"\nP(best)\n{bins.to_string(index=False, float_format='{:.3f}'.format)}")
