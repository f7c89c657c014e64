"""A summary of an evaluation: one row per selector and protocol."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lensllm.core.measures import LOSS
from lensllm.evaluation.statistics import MIN_ANSWERED, PairedBootstrap, paired_bootstrap
from lensllm.reports.tables import Table

_MEANS = {
    "pearson": "Pearson",
    "relative_accuracy": "RelAcc",
    "regret": "regret",
    "top3_hit": "top-3",
    "log_rmse": "log RMSE",
    "coverage80": "cover 80",
    "cost_fraction": "cost %",
}


def summary_table(
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    n_resamples: int = 1000,
    seed: int = 0,
    unit: str = LOSS.unit,
) -> Table:
    """Means over all cells of a protocol, and the selectors not distinguishable from the best.

    Args:
        scores: Scores of an evaluation.
        predictions: Its predictions.
        n_resamples: Resamples of the paired bootstrap over candidates.
        seed: Seed of the bootstrap.
        unit: Unit of regret.

    Returns:
        The table; `lead` marks the selectors whose regret does not differ from the smallest one by
        more than the bootstrap's 95 % interval. By regret, those that answered less than
        `MIN_ANSWERED` of the cells last.

    Raises:
        ValueError: There are no scores.
    """
    if scores.empty:
        raise ValueError("Expected scores of at least one cell, got none: give budgets that fit")
    rows = []
    for protocol, part in scores.groupby("protocol", sort=False):
        lines = predictions[predictions["protocol"] == protocol]
        found = paired_bootstrap(lines, n_resamples=n_resamples, seed=seed)
        means = part.groupby("selector", sort=False)[list(_MEANS)].mean()
        share = part.assign(done=part["status"] == "ranked").groupby("selector")["done"].mean()
        means["few"] = share < MIN_ANSWERED
        for name in means.sort_values(["few", "regret"], kind="stable").index:
            rows.append(
                {
                    "protocol": protocol,
                    "selector": name,
                    **{label: means.loc[name, key] for key, label in _MEANS.items()},
                    "answered %": 100.0 * share[name],
                    **_lead(found, str(name)),
                }
            )
    frame = pd.DataFrame.from_records(rows)
    frame["cost %"] *= 100.0
    caption = (
        "Means over data sets, seeds and budgets. `papers`: every D <= D_full / ratio is given; "
        "`flops`: the selector spends a share of full fine-tuning. `rank`: mean rank; `log RMSE`: "
        "error of predicted losses; `cover 80`: share of 80 % intervals that hold the loss. "
        f"Regret in {unit} with the 95 % "
        "interval of a paired bootstrap over candidates; `lead`: not to be told from the smallest "
        "regret by that bootstrap, among selectors that answered at least half of the cells, over "
        "the cells that these all answered; a selector that stands alone has no lead. "
        "`answered %`: cells whose budget sufficed, over which the means are taken; "
        "selectors that answered different cells are not comparable by their means. "
        f"{_targets(scores)}"
    )
    return Table("summary", caption, frame, _DECIMALS)


def _targets(scores: pd.DataFrame) -> str:
    """The data sets, their D_full and their numbers of candidates."""
    cells = scores.groupby("dataset", sort=False)[["n_samples_full", "n_candidates"]].max()
    parts = [f"{row.Index} {row.n_samples_full} ({row.n_candidates})" for row in cells.itertuples()]
    return f"D_full (candidates): {', '.join(parts)}."


_DECIMALS = {
    **dict.fromkeys(("Pearson", "RelAcc", "regret", "top-3", "log RMSE", "rank"), 3),
    **dict.fromkeys(("cover 80", "cost %"), 2),
    "answered %": 0,
}


def _lead(found: PairedBootstrap, name: str) -> dict[str, object]:
    """Interval, mean rank and `lead` mark of one selector."""
    i = found.selectors.index(name) if name in found.selectors else -1
    if i < 0 or not np.isfinite(found.mean[i]):
        return {"95 %": None, "rank": None, "lead": ""}
    return {
        "95 %": f"{found.lower[i]:.3f} to {found.upper[i]:.3f}",
        "rank": float(found.mean_rank[i]),
        "lead": "*" if found.leads[i] and np.isfinite(found.mean).sum() > 1 else "",
    }
