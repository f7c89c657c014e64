"""The comparison of takeovers as Markdown."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lensllm.studies.takeover.comparison import OTHER_SEED
from lensllm.studies.takeover.trials import START, TAKEOVERS

# Columns that have a value for each size, and how it is written.
_AT_SIZES: dict[str, Callable[[pd.DataFrame], str]] = {
    "loss minus loss from the start (s.d. over models)": lambda x: (
        f"{x['difference'].mean():+.3f} ({x['spread'].mean():.3f})"
    ),
    "rank correlation with those from the start": lambda x: f"{x['rank_correlation'].mean():.2f}",
    "same best": lambda x: f"{x['same_best'].sum()} of {len(x)}",
    "rank correlation with D_full": lambda x: f"{x['full_correlation'].mean():.2f}",
    "regret at D_full": lambda x: f"{x['regret'].mean():.3f}",
    "where half took over": lambda x: f"{x['mixed_regret'].mean():.3f}",
}


def takeover_table(points: pd.DataFrame, forecasts: pd.DataFrame, cost: pd.DataFrame) -> str:
    """One row per task and way, means over seeds; sizes, and then forecasts, share a cell.

    Args:
        points: See `compare_points`; the smallest size, at which ways are the same, is left out.
        forecasts: See `compare_forecasts`.
        cost: See `relative_cost`.
    """
    points = points[points["n_samples"] > points["n_samples"].min()]
    selectors = " / ".join(forecasts["selector"].unique())
    head = ["task", "way", *_AT_SIZES, f"RMSE (bias) of forecast log losses: {selectors}", "FLOPs"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for dataset in points["dataset"].unique():
        for way in (START, OTHER_SEED, *(takeover.name for takeover in TAKEOVERS)):
            rows, found = (
                table[(table["dataset"] == dataset) & (table["way"] == way)]
                for table in (points, forecasts)
            )
            if len(rows):
                share = "" if way == OTHER_SEED else f"{cost.loc[dataset, way]:.0%}"
                cells = [dataset, way, *_sizes(rows), _forecast(found), share]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sizes(rows: pd.DataFrame) -> list[str]:
    """The cells of one way with a value for each size."""
    parts = [part for _, part in rows.groupby("n_samples")]
    return [" / ".join(map(word, parts)) for word in _AT_SIZES.values()]


def _forecast(rows: pd.DataFrame) -> str:
    """The errors of the forecasts from the losses of one way."""
    means = rows.groupby("selector", sort=False)[["log_rmse", "bias"]].mean()
    return " / ".join(f"{x.log_rmse:.3f} ({x.bias:+.3f})" for x in means.itertuples())
