"""Fit scaling laws to learning curves: python scripts/fit_laws.py curves=PATH [law=all]."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from dataclasses import dataclass, field
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from lensllm.curves import read_curves
from lensllm.entry import entry_point, output_dir
from lensllm.reporting.law_report import write_law_report


@dataclass
class FitConfig:
    """Keys of conf/fit.yaml; see there."""

    curves: str = MISSING
    law: Any = MISSING
    allow_missing: bool = False
    datasets: list[str] | None = None
    models: list[str] | None = None
    max_n_samples: float | None = None
    objective: str = "squared_log"
    delta: float = 1e-3
    use_zero: bool | None = False
    n_starts: int = 32
    seed: int = 0
    predict_at: list[float] = field(default_factory=list)
    target_loss: float | None = None
    level: float = 0.8
    forward: bool | None = None
    figures: bool = True
    paths: Any = MISSING


@entry_point("fit", FitConfig)
def main(cfg: DictConfig) -> None:
    """Fit, print a table, and write fits.csv and a drawing of each curve."""
    options = OmegaConf.to_container(cfg, resolve=True)
    del options["paths"]
    curves = read_curves(options.pop("curves"), allow_missing=options.pop("allow_missing"))
    options.pop("law")
    laws = instantiate(cfg.law)
    laws = laws if isinstance(laws, tuple) else (laws,)
    print(write_law_report(curves, laws, output_dir(), **options))


if __name__ == "__main__":
    main()
