"""Published figures, to stand beside measured ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "evaluation"
RSL = "Lin et al., ICML 2024, arXiv:2402.02314"
LENSLLM = "Zeng et al., ICML 2025, arXiv:2505.03793"


def published(name: str) -> pd.DataFrame:
    """One table of published figures, in its own layout (`published_<name>.csv`)."""
    return pd.read_csv(FOLDER / f"published_{name}.csv", comment="#")


def published_by_ratio(name: str) -> pd.DataFrame:
    """A table with columns `ratio_8`, ..., as one row per ratio: `budget_ratio`, `published`."""
    table = published(name)
    keys = [column for column in table.columns if not column.startswith("ratio_")]
    long = table.melt(keys, var_name="budget_ratio", value_name="published")
    long["budget_ratio"] = long["budget_ratio"].str.removeprefix("ratio_").astype(int)
    return long


def as_published(value: float, decimals: int = 1) -> float:
    """A fraction as percent, rounded as RSL's figures are: to four decimals, then once more.

    Example:
        >>> as_published(0.9705128), as_published(-0.2445030)
        (97.0, -24.4)
    """
    return float(f"{round(value, 4) * 100:.{decimals}f}")
