"""Test the pre-hoc estimators on the synthetic process."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import StudyPrehocConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.system.harmless import write_csv


@entry_point("study_prehoc", StudyPrehocConfig)
def main(cfg: DictConfig) -> None:
    """Print two tables, and write them as `recovery.csv` and, if any, `regimes.csv`."""
    import numpy as np

    from lensllm.studies.prehoc.study import recovery, regimes

    costs = np.geomspace(0.01, 1.0, 12)
    process = instantiate(cfg.process)
    table = recovery(
        process,
        costs,
        cfg.n_runs,
        cfg.prices,
        cfg.n_repetitions,
        n_draws=cfg.n_draws,
        progress=True,
    )
    write_csv(table, output_dir() / "recovery.csv")
    print(table.T.to_string(float_format="{:.3g}".format))
    files = ["recovery.csv"]
    if cfg.n_regime_repetitions:
        found = regimes(
            {name: instantiate(node) for name, node in cfg.processes.items()},
            costs,
            cfg.n_models,
            cfg.n_seeds,
            cfg.n_regime_repetitions,
            progress=True,
        )
        write_csv(found, output_dir() / "regimes.csv")
        print(found.T.to_string(float_format="{:.3g}".format))
        files.append("regimes.csv")
    print(f"results: {output_dir()}: {', '.join(files)}")
