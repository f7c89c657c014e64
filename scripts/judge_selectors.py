"""Selectors judged in many campaigns on recorded curves: python -m scripts.judge_selectors."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.config import JudgeSelectorsConfig
from lensllm.entry import conf_dir, entry_point, output_dir
from lensllm.harmless import write_csv


@entry_point("judge_selectors", JudgeSelectorsConfig)
def main(cfg: DictConfig) -> None:
    """Replay the campaigns; write them, means with intervals, and how far P(best) was true."""
    from lensllm.benchmarks.evaluation import with_prior_curves
    from lensllm.benchmarks.judging import coverage, judge, reliability, summarize, unseen
    from lensllm.reporting.calibration_figure import calibration_figure
    from lensllm.selection.named import named_selectors

    values: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    benchmark = instantiate(cfg.benchmark)

    def selectors(dataset: str) -> list[Any]:
        found = named_selectors(values["selectors"], conf_dir() / "selector", values)
        others = benchmark.curves[benchmark.curves["dataset"] != dataset]
        ready = [unseen(item, dataset) for item in found]
        return [with_prior_curves(item, others) for item in ready] if cfg.earlier_tasks else ready

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
    sizes = rows.assign(n_sizes=rows["n_sizes"].clip(upper=3))  # 3 stands for 3 and more
    write_csv(reliability(sizes, ["selector", "n_sizes"]), output_dir() / "reliability_by_size.csv")
    write_csv(coverage(rows), output_dir() / "coverage.csv")
    own = rows[(rows["selector"] == first) & rows["p_best"].notna()]
    if len(own):
        calibration_figure(own).savefig(output_dir() / "calibration.png", dpi=150)
    print(f"\nP(best)\n{bins.to_string(index=False, float_format='{:.3f}'.format)}")


if __name__ == "__main__":
    main()
