"""Fit scaling laws to learning curves."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import FitConfig
from lensllm.commands.entry import entry_point, output_dir


@entry_point("fit", FitConfig)
def main(cfg: DictConfig) -> None:
    """Fit, print a table, and write `fits.csv` and a figure of each curve."""
    from lensllm.core.curves import read_curves
    from lensllm.reports.console import say
    from lensllm.reports.law_report import write_law_report

    options: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    del options["paths"], options["allowed_targets"]
    curves = read_curves(options.pop("curves"), allow_missing=options.pop("allow_missing"))
    options.pop("law")
    laws = instantiate(cfg.law)
    laws = laws if isinstance(laws, tuple) else (laws,)
    say(write_law_report(curves, laws, output_dir(), **options))
