"""Convert past runs of other training programs into curves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import ImportConfig
from lensllm.commands.entry import entry_point, output_dir


@entry_point("import", ImportConfig)
def main(cfg: DictConfig) -> None:
    """Print the values taken from each run, and write the curves."""
    from lensllm.core.curves import check_curves
    from lensllm.core.past_runs import PastRunOptions, curves_of, read_past_runs, remarks, take
    from lensllm.reports.console import print_table, say
    from lensllm.reports.past_runs import taken_table
    from lensllm.system.harmless import write_csv

    options = PastRunOptions(**{option.name: cfg[option.name] for option in fields(PastRunOptions)})
    taken = take(read_past_runs(cfg.path, options.source), options)
    print_table(taken_table(taken))
    curves = check_curves(curves_of(taken, cfg.path), cfg.path)
    path = Path(cfg.output) if cfg.output else output_dir() / "curves.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(curves, path)
    n_taken = sum(not item.problem for item in taken)
    say(
        *remarks(taken),
        f"{n_taken} of {len(taken)} runs are {len(curves)} points of curves in {path}",
    )
