"""Test whether the NTK term of LensLLM explains recorded curves."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from lensllm.commands.config import StudyNTKConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.system.harmless import write_csv
from lensllm.system.quiet import quiet_libraries


@entry_point("study_ntk", StudyNTKConfig)
def main(cfg: DictConfig) -> None:
    """Write F beside D_l, forward validation and the sweep over gamma and tau, and a figure."""
    from lensllm.reports.console import print_table, wide_console
    from lensllm.studies.curvature.hessian_study import Analyses, save_hessian_figure
    from lensllm.studies.curvature.ntk_figure import save_ntk_figure
    from lensllm.studies.curvature.ntk_study import NTKStudy
    from lensllm.system.progress import LongWork

    quiet_libraries()
    provider = instantiate(cfg.selector, _convert_="all").ntk
    console, dataset = wide_console(), provider.data.name
    with LongWork("studying the NTK term") as work:
        study = NTKStudy(
            instantiate(cfg.benchmark),
            dataset,
            {name: provider(name).curve for name in provider.sources},
            tuple(cfg.gammas),
            tuple(cfg.taus),
            cfg.budget_ratio,
            Analyses(Path(cfg.analyses), dataset) if cfg.analyses else None,
            f"lensllm study_ntk dataset={dataset}",
            work,
        )
        tables = study.tables()
    for table in tables:
        table.write(output_dir())
        print_table(table, console)
    write_csv(study.terms, output_dir() / "terms.csv")
    write_csv(study.forward, output_dir() / "forward.csv")
    if study.analyses and study.analyses.paths:
        save_hessian_figure(study.analyses, output_dir())
    console.print(f"tables and {save_ntk_figure(study, output_dir()).name} are in {output_dir()}")
