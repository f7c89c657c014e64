"""The comparison of takeovers as Markdown."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lensllm.studies.takeover.comparison import OTHER_SEED
from lensllm.studies.takeover.trials import START

_POINTS = (
    "loss minus loss from the start (s.d. over models)",
    "rank correlation with those from the start",
    "same best",
    "rank correlation with D_full",
    "regret at D_full",
    "where half took over",
)


def points_table(points: pd.DataFrame, cost: pd.DataFrame) -> str:
    """The losses of each way against those from the start, means over seeds, sizes in one cell.

    Args:
        points: See `compare_points`.
        cost: See `relative_cost`.
    """
    points = points[points["n_samples"] > points["n_samples"].min()]
    sizes = " / ".join(map(str, sorted(points["n_samples"].unique())))
    head = ["task", "way", *_POINTS, "FLOPs"]
    lines = [f"At D = {sizes}:", "", *_head(head)]
    for (dataset, way), rows in points.groupby(["dataset", "way"], sort=False):
        at = [rows[rows["n_samples"] == n] for n in sorted(rows["n_samples"].unique())]
        cells = [
            _each(at, lambda x: f"{x['difference'].mean():+.3f} ({x['spread'].mean():.3f})"),
            _each(at, lambda x: f"{x['rank_correlation'].mean():.2f}"),
            _each(at, lambda x: f"{x['same_best'].sum()} of {len(x)}"),
            _each(at, lambda x: f"{x['full_correlation'].mean():.2f}"),
            _each(at, lambda x: f"{x['regret'].mean():.3f}"),
            _each(at, lambda x: f"{x['mixed_regret'].mean():.3f}"),
        ]
        share = "" if way == OTHER_SEED else f"{cost.loc[dataset, way]:.0%}"
        lines.append(f"| {' | '.join([dataset, way, *cells, share])} |")
    return "\n".join(lines) + "\n"


def forecasts_table(forecasts: pd.DataFrame) -> str:
    """The forecasts from each way's losses, means over seeds.

    Args:
        forecasts: See `compare_forecasts`.
    """
    head = ["task", "forecast", "losses", "RMSE of log loss", "bias", "rank correlation", "regret"]
    lines = _head(head)
    order = [START, *dict.fromkeys(forecasts.loc[forecasts["way"] != START, "way"])]
    for (dataset, selector), rows in forecasts.groupby(["dataset", "selector"], sort=False):
        for way in order:
            mean = rows[rows["way"] == way].mean(numeric_only=True)
            cells = f"{mean['log_rmse']:.3f} | {mean['bias']:+.3f} | {mean['rank_correlation']:.2f}"
            lines.append(f"| {dataset} | {selector} | {way} | {cells} | {mean['regret']:.3f} |")
    return "\n".join(lines) + "\n"


def _head(columns: list[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]


def _each(parts: list[pd.DataFrame], word: Callable[[pd.DataFrame], str]) -> str:
    """One word per size in one cell."""
    return " / ".join(word(part) for part in parts)
