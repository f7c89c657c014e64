"""How well pre-hoc estimators do on the synthetic process: python scripts/study_prehoc.py."""

from __future__ import annotations

import lensllm.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from dataclasses import dataclass, field
from typing import Any

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from lensllm.entry import entry_point, output_dir


@dataclass
class StudyConfig:
    """Keys of `conf/study_prehoc.yaml`."""

    process: Any = MISSING
    n_runs: list[int] = field(default_factory=lambda: [24, 72, 200])
    prices: list[float] = field(default_factory=lambda: [0.01, 0.03, 0.1])
    n_repetitions: int = 200
    n_draws: int = 400
    processes: dict[str, Any] = field(default_factory=dict)
    n_models: int = 12
    n_seeds: int = 6
    n_regime_repetitions: int = 50
    paths: Any = MISSING


@entry_point("study_prehoc", StudyConfig)
def main(cfg: DictConfig) -> None:
    """Print two tables, and write them as `recovery.csv` and, if any, `regimes.csv`."""
    import numpy as np

    from lensllm.prehoc.study import recovery, regimes

    costs = np.geomspace(0.01, 1.0, 12)
    process = instantiate(cfg.process)
    table = recovery(process, costs, cfg.n_runs, cfg.prices, cfg.n_repetitions, n_draws=cfg.n_draws)
    table.to_csv(output_dir() / "recovery.csv", index=False)
    print(table.T.to_string(float_format="{:.3g}".format))
    files = ["recovery.csv"]
    if cfg.n_regime_repetitions:
        found = regimes(
            {name: instantiate(node) for name, node in cfg.processes.items()},
            costs,
            cfg.n_models,
            cfg.n_seeds,
            cfg.n_regime_repetitions,
        )
        found.to_csv(output_dir() / "regimes.csv", index=False)
        print(found.T.to_string(float_format="{:.3g}".format))
        files.append("regimes.csv")
    print(f"results: {output_dir()}: {', '.join(files)}")


if __name__ == "__main__":
    main()
