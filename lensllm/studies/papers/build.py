"""Which tables and figures there are, and writing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lensllm.reports.style import save
from lensllm.reports.tables import Table
from lensllm.studies.papers import (
    lensllm_sweep,
    lensllm_tables,
    protocol_tables,
    rsl_tables,
    study_figures,
)
from lensllm.studies.papers.study import Study
from lensllm.system.harmless import safe_name

GENERAL_TABLES: dict[str, Callable[[Study], Table]] = {
    "summary": protocol_tables.summary,
    "differences": protocol_tables.differences,
}
# Tables of the papers need their benchmark; the others take any.
PAPER_TABLES: dict[str, Callable[[Study], Table]] = {
    "rsl_table1": rsl_tables.rsl_table1,
    "rsl_table2": rsl_tables.rsl_table2,
    "rsl_table3": rsl_tables.rsl_table3,
    "rsl_size_ablation": rsl_tables.rsl_size_ablation,
    "rsl_k_delta": rsl_tables.rsl_k_delta,
    "lensllm_rmse": lensllm_tables.lensllm_rmse,
    "lensllm_selection": lensllm_tables.lensllm_selection,
    "lensllm_cost": lensllm_tables.lensllm_cost,
    "lensllm_gamma_tau": lensllm_tables.lensllm_gamma_tau,
    "lensllm_table8": lensllm_sweep.lensllm_table8,
}
ERROR_TABLES = ("rsl_table3", "lensllm_rmse")  # of figures of which the smaller are better
# Drawn with their table, where there is something to draw.
TABLE_FIGURES: dict[str, Callable[[Table], Figure | None]] = {
    "lensllm_table8": lensllm_sweep.draw_table8,
}
FIGURES: dict[str, Callable[[Study], Figure]] = {
    "correlation_by_budget": study_figures.correlation_by_budget,
    "curves_with_fits": study_figures.curves_with_fits,
    "fitted_against_true": study_figures.fitted_against_true,
    "accuracy_against_cost": study_figures.accuracy_against_cost,
    "heat_maps": study_figures.heat_maps,
}


def build(study: Study, table: str, folder: str | Path, figures: bool = True) -> list[Path]:
    """Write tables and figures.

    Args:
        study: What they are about.
        table: `all`, or the name of one table.
        folder: Where to write.
        figures: Whether to draw figures as well: with one table its own, with `all` all of them.

    Returns:
        The files written.

    Raises:
        ValueError: There is no such table, or it needs another benchmark.
    """
    folder = Path(folder)
    written: list[Path] = []
    for name, function in _chosen(table, study.benchmark.name).items():
        study.say(name)
        made = function(study)
        made = replace(made, caption=f"{made.caption} Command: {study.command(name)}")
        written += made.write(folder)
        figure = TABLE_FIGURES[name](made) if figures and name in TABLE_FIGURES else None
        if figure is not None:
            written.append(save(figure, folder / f"{safe_name(made.name)}.png"))
    if figures and table == "all":
        for name, draw in FIGURES.items():
            study.say(name)
            path = folder / f"{safe_name(study.benchmark.name)}_{name}.png"
            written.append(save(draw(study), path))
    return written


def agreement(frame: pd.DataFrame, errors: bool = False) -> str:
    """How many cells of a table equal the published ones; empty if it has no such cells.

    Args:
        frame: The table.
        errors: Whether its figures are errors, of which the smaller are better.

    Example:
        >>> agreement(pd.DataFrame({"difference": [0.0, -0.2, np.nan]}))
        ': 2 published cells: 1 equal, 1 lower, 0 higher; largest difference 0.2'
    """
    columns = [name for name in frame if str(name).endswith("difference")]
    cells = frame[columns].to_numpy(dtype=float)
    cells = cells[np.isfinite(cells)]
    if not cells.size:
        return ""
    n_equal, n_lower, n_higher = (int(x.sum()) for x in (cells == 0, cells < 0, cells > 0))
    lower, higher = ("better (smaller errors)", "worse") if errors else ("lower", "higher")
    return (
        f": {cells.size} published cells: {n_equal} equal, {n_lower} {lower}, {n_higher} {higher}; "
        f"largest difference {np.abs(cells).max():.3g}"
    )


def _chosen(table: str, benchmark: str) -> dict[str, Callable[[Study], Table]]:
    """The tables to make; the general ones first, whose evaluation the others share."""
    functions = GENERAL_TABLES | PAPER_TABLES
    if table == "all":
        return functions if benchmark == "rsl" else GENERAL_TABLES
    if table not in functions:
        raise ValueError(
            f"Expected `table` to be all or one of {', '.join(functions)}, got {table!r}"
        )
    if table in PAPER_TABLES and benchmark != "rsl":
        raise ValueError(f"Expected benchmark=rsl for {table}, got {benchmark!r}")
    return {table: functions[table]}
