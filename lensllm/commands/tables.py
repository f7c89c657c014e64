"""The papers' tables and figures."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.config import TablesConfig
from lensllm.commands.entry import entry_point, output_dir

# Settings that a caption states anyway, or that affect only where files are written.
_SAID_ELSEWHERE = ("table=", "benchmark=", "figures=", "trials=", "paths.", "hydra.")


@entry_point("tables", TablesConfig)
def main(cfg: DictConfig) -> None:
    """Write every table as Markdown, LaTeX and CSV, and every figure as PNG."""
    import pandas as pd

    from lensllm.commands.named import named_selectors
    from lensllm.reports.console import wide_console
    from lensllm.studies.papers.build import ERROR_TABLES, agreement, build
    from lensllm.studies.papers.study import Study
    from lensllm.system.progress import LongWork

    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    table, figures = values.pop("table"), values.pop("figures")
    for key in ("benchmark", "paths", "allowed_targets"):
        del values[key]
    selectors = named_selectors(values.pop("selectors"), conf_dir() / "selector")
    console = wide_console()
    benchmark = instantiate(cfg.benchmark)
    overrides = [
        word for word in HydraConfig.get().overrides.task if not word.startswith(_SAID_ELSEWHERE)
    ]
    with LongWork("making tables") as work:
        study = Study(benchmark, selectors, **values, overrides=overrides, progress=work)
        written = build(study, table, output_dir(), figures)
    for path in written:
        is_csv, errors = path.suffix == ".csv", path.stem in ERROR_TABLES
        words = agreement(pd.read_csv(path), errors) if is_csv else ""
        console.print(f"{path}{words}", soft_wrap=True)
