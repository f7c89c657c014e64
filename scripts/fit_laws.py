"""Fit scaling laws to learning curves: python scripts/fit_laws.py curves=PATH [law=all]."""

from __future__ import annotations

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.config import FitConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.core.curves import read_curves
from lensllm.reports.console import say
from lensllm.reports.law_report import write_law_report


@entry_point("fit", FitConfig)
def main(cfg: DictConfig) -> None:
    """Fit, print a table, and write fits.csv and a drawing of each curve."""
    options = OmegaConf.to_container(cfg, resolve=True)
    del options["paths"], options["allowed_targets"]
    curves = read_curves(options.pop("curves"), allow_missing=options.pop("allow_missing"))
    options.pop("law")
    laws = instantiate(cfg.law)
    laws = laws if isinstance(laws, tuple) else (laws,)
    say(write_law_report(curves, laws, output_dir(), **options))


if __name__ == "__main__":
    main()
