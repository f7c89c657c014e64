"""Estimate what can be known before training, and how deep to probe."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import PrehocConfig
from lensllm.commands.entry import entry_point, instantiate_loggers, output_dir
from lensllm.system.harmless import stored_settings
from lensllm.system.quiet import quiet_libraries


@entry_point("prehoc", PrehocConfig)
def main(cfg: DictConfig) -> None:
    """Decompose the risk of every task, and write tables, figures and `prehoc.json`."""
    from lensllm.reports.console import say
    from lensllm.studies.prehoc.analysis import analyze
    from lensllm.studies.prehoc.load import load_runs
    from lensllm.studies.prehoc.report import summary_lines, write_analysis

    quiet_libraries()
    names = ("trials", "kind", "n_costs", "max_cost", "synthetic", "seed")
    runs = load_runs(
        benchmark=instantiate(cfg.benchmark) if cfg.benchmark else None,
        n_samples=cfg.n_samples,
        models=cfg.models,
        features=instantiate(cfg.features, _convert_="all"),
        features_path=output_dir() / "features.csv",
        **{name: cfg[name] for name in names},
    )
    options = ("leave_out", "level", "n_draws", "n_candidates", "seed")
    analysis = analyze(runs, instantiate(cfg.price), **{name: cfg[name] for name in options})
    make_loggers = instantiate_loggers(cfg)
    settings = stored_settings(cfg)
    files = write_analysis(analysis, output_dir(), settings, make_loggers)
    say(*summary_lines(analysis))
    say(f"results: {output_dir()}: {', '.join(path.name for path in files)}")
