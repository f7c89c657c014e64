"""The papers' tables and figures: python scripts/make_tables.py table=all|rsl_table1|..."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from dataclasses import dataclass, field
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.entry import conf_dir, entry_point, output_dir

# What a caption says anyway, or what decides where files are and not what is in them.
_SAID_ELSEWHERE = ("table=", "benchmark=", "figures=", "trials=", "paths.", "hydra.")


@dataclass
class TablesConfig:
    """Keys of `conf/tables.yaml`."""

    table: str = "all"
    figures: bool = True
    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    gamma_tau_ratios: list[int] = field(default_factory=list)
    trials: str | None = None
    n_resamples: int = 1000
    seed: int = 0
    benchmark: Any = None
    paths: Any = None


@entry_point("tables", TablesConfig)
def main(cfg: DictConfig) -> None:
    """Write every table as Markdown, LaTeX and CSV, and every figure as PNG."""
    from rich.console import Console

    from lensllm.reporting.build import build
    from lensllm.reporting.study import Study
    from lensllm.selection.named import named_selectors

    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    table, figures = values.pop("table"), values.pop("figures")
    for group in ("benchmark", "paths"):
        del values[group]
    selectors = named_selectors(values.pop("selectors"), conf_dir() / "selector")
    console = Console()
    benchmark = instantiate(cfg.benchmark)
    overrides = [
        word for word in HydraConfig.get().overrides.task if not word.startswith(_SAID_ELSEWHERE)
    ]
    with console.status("making tables") as status:
        study = Study(benchmark, selectors, **values, overrides=overrides, progress=status.update)
        written = build(study, table, output_dir(), figures)
    for path in written:
        console.print(str(path), soft_wrap=True)


if __name__ == "__main__":
    main()
