"""Tables that the papers do not have: both protocols, with their uncertainty."""

from __future__ import annotations

import pandas as pd

from lensllm.evaluation.metrics import expected_random
from lensllm.evaluation.statistics import paired_bootstrap
from lensllm.reports.summary import summary_table
from lensllm.reports.tables import Table
from lensllm.studies.papers.study import Study


def summary(study: Study) -> Table:
    """Means of all selectors in both protocols."""
    found = study.evaluation
    table = summary_table(found.scores, found.predictions, study.n_resamples, study.seed)
    truths = [study.benchmark.runner(name).truth() for name in study.benchmark.datasets]
    chance = pd.DataFrame([expected_random(list(truth.values())) for truth in truths]).mean()
    caption = (
        f"{table.caption} Benchmark: {study.benchmark.name}. Expected of a uniformly random choice "
        f"(exact): relative accuracy {chance['relative_accuracy']:.3f}, regret "
        f"{chance['regret']:.3f}, top-3 {chance['top3_hit']:.3f}."
    )
    return Table(f"{study.benchmark.name}_summary", caption, table.frame, table.decimals)


def differences(study: Study) -> Table:
    """Paired differences of regret and relative accuracy to the best selector."""
    rows = []
    for protocol, lines in study.evaluation.predictions.groupby("protocol", sort=False):
        for metric in ("regret", "relative_accuracy"):
            found = paired_bootstrap(lines, metric, study.n_resamples, study.seed)
            for i, name in enumerate(found.selectors):
                rows.append(
                    {
                        "protocol": protocol,
                        "metric": metric,
                        "selector": name,
                        "mean": float(found.mean[i]),
                        "to the best": float(found.difference[i]),
                        "lower": float(found.difference_lower[i]),
                        "upper": float(found.difference_upper[i]),
                        "leads": "yes" if found.leads[i] else "no",
                        "cells": found.n_cells,
                    }
                )
    frame = pd.DataFrame.from_records(rows)
    caption = (
        "Difference to the selector with the best mean, with the 95 % interval of a paired "
        f"bootstrap over candidates ({study.n_resamples} resamples). `leads: yes` means that the "
        "interval has 0: nothing says that the selector is worse than the best. Only cells that "
        "all selectors answered count; selectors that answered fewer than half are left out."
    )
    names = ("mean", "to the best", "lower", "upper")
    return Table(f"{study.benchmark.name}_differences", caption, frame, dict.fromkeys(names, 3))
