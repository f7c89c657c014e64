"""Write the recorded curves of the zoo from the trial store of its sweep."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import RecordConfig
from lensllm.commands.entry import entry_point


@entry_point("record", RecordConfig)
def main(cfg: DictConfig) -> None:
    """Write `benchmarks/zoo.csv` of the package, or another file."""
    import lensllm.evaluation
    from lensllm.core.trials import TrialStore
    from lensllm.studies.zoo.record import write_recorded_curves
    from lensllm.zoo import zoo_models

    default = Path(lensllm.evaluation.__file__).parent / "zoo.csv"
    path = Path(cfg.path) if cfg.path else default
    zoo = set(zoo_models())
    results = [r for r in TrialStore(cfg.paths.store_dir).results() if r.trial.model in zoo]
    n_rows = write_recorded_curves(results, path, extend=cfg.extend)
    print(f"{n_rows} trials in {path}")
