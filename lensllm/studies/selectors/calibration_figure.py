"""A figure of the calibration of a selector's probabilities and intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lensllm.evaluation.statistics import reliability
from lensllm.reports.style import OTHER, PALETTE, new_figure, styled
from lensllm.studies.selectors.judging import P_EDGES

_COLOR = PALETTE[0]


@styled
def calibration_figure(rows: pd.DataFrame) -> Figure:
    """P(best) against how often it came true, and coverage of 80 % intervals by budget.

    Args:
        rows: Rows of one selector of `lensllm.studies.selectors.judging.campaigns`.

    Returns:
        The figure. Bars on the left are one binomial standard error, those on the right one
        standard error of the mean over data sets.
    """
    figure = new_figure(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    bins = reliability(rows, P_EDGES)
    error = np.sqrt((bins["true"] * (1 - bins["true"])).clip(lower=0.01) / bins["n"])
    left.plot([0, 1], [0, 1], color=OTHER, lw=1)
    left.errorbar(bins["said"], bins["true"], error, fmt="o", color=_COLOR, capsize=2)
    for said, true, n in zip(bins["said"], bins["true"], bins["n"], strict=True):
        left.annotate(f"{n}", (said, true), (6, -10), textcoords="offset points", fontsize=7)
    left.set(xlabel="P(best) said of the choice", ylabel="share of choices that were best")
    left.set(xlim=(0, 1), ylim=(0, 1.03))
    by_task = rows.pivot_table(index="dataset", columns="budget_fraction", values="coverage80")
    mean, spread = by_task.mean(), by_task.std() / np.sqrt(by_task.notna().sum())
    right.axhline(0.8, color=OTHER, lw=1)
    right.errorbar(100 * mean.index, mean, spread, fmt="o-", color=_COLOR, capsize=2)
    right.set(xlabel="budget, % of fine-tuning every candidate in full", ylim=(0, 1.03))
    right.set_ylabel("true losses inside 80 % intervals")
    return figure
