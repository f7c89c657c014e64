"""The table of a comparison by real fine-tuning."""

from __future__ import annotations

import pandas as pd

from lensllm.reports.tables import Table

_DECIMALS = {"budget %": 0, "right": 2, "regret": 3, "cost %": 1, "difference": 3}


def live_table(summary: pd.DataFrame, dataset: str, n_campaigns: int) -> Table:
    """Means with their intervals, one row per budget and selector.

    Args:
        summary: See `lensllm.studies.selectors.live.summarize_live`.
        dataset: Name of the data set that was fine-tuned on.
        n_campaigns: Number of campaigns.
    """
    frame = pd.DataFrame(
        {
            "budget %": 100.0 * summary["budget_fraction"],
            "selector": summary["selector"],
            "n": summary["n"],
            "right": summary["right"],
            "regret": summary["regret"],
            "95 %": _ends(summary, "regret", 1.0, 3),
            "cost %": 100.0 * summary["cost_fraction"],
            "cost 95 %": _ends(summary, "cost_fraction", 100.0, 1),
            "difference": summary["difference"],
            "difference 95 %": _ends(summary, "difference", 1.0, 3),
        }
    )
    caption = (
        f"{n_campaigns} campaigns by real fine-tuning on {dataset}: share of right choices, "
        "regret in nats per target token against recorded losses at D_full, cost as a share of "
        "fine-tuning every candidate in full, difference in regret from the first selector. 95 % "
        "intervals by bootstrap over repetitions, paired over selectors. "
        "`lensllm live`"
    )
    return Table("live_summary", caption, frame, _DECIMALS)


def _ends(summary: pd.DataFrame, name: str, scale: float, digits: int) -> list[str | None]:
    """Ends of intervals as text."""
    ends = zip(scale * summary[f"{name}_lower"], scale * summary[f"{name}_upper"], strict=True)
    return [None if low != low else f"{low:.{digits}f} to {high:.{digits}f}" for low, high in ends]
