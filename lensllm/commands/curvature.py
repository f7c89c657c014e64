"""The NTK of a candidate, and the Hessian terms of the bound after fine-tuning it."""

from __future__ import annotations

import json

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import CurvatureConfig
from lensllm.commands.entry import entry_point, instantiate_finetune_runner, output_dir


@entry_point("curvature", CurvatureConfig)
def main(cfg: DictConfig) -> None:
    """Analyse one candidate, and write tables, figures and `curvature.json`."""
    from lensllm.curvature.analysis import analyze
    from lensllm.evaluation.local import ZOO_CSV
    from lensllm.reports.console import say
    from lensllm.studies.curvature.report import read_curve, summary_lines, write_analysis

    runner = instantiate_finetune_runner(cfg)
    (name,) = runner.sources
    path = str(ZOO_CSV) if cfg.curves == "zoo" else cfg.curves
    curves = read_curve(path, name, runner.data.name)
    sizes = [cfg.n_samples] if isinstance(cfg.n_samples, int) else list(cfg.n_samples)
    analysis = analyze(
        runner,
        instantiate(cfg.ntk, _convert_="all")(data=runner.data),
        name,
        sizes,
        n_hessian=cfg.n_hessian,
        n_training=cfg.n_training,
        n_steps=cfg.n_lanczos,
        epsilon=cfg.epsilon,
        progress=say,
    )
    record = write_analysis(analysis, output_dir(), curves, runner.make_loggers)
    say(*summary_lines(record))
    print(f"results: {output_dir()}", json.dumps(sorted(p.name for p in output_dir().glob("*.*"))))
