"""Does the loss at D tell which candidate has the best accuracy at D_full, or does the accuracy?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from lensllm.data.pairs import TextData, make_text_data
from lensllm.evaluation.metrics import correlations, regret

_COLUMNS = ("dataset", "seed", "n_samples", "criterion", "rank_correlation", "regret")
CRITERIA = {"loss per byte": "test_loss_per_byte", "accuracy": "accuracy"}


def most_frequent_labels(data: TextData, n_labels: int, n_test: int = 600) -> TextData:
    """The pairs of a data set whose labels are its most frequent ones.

    Args:
        data: A data set whose targets are labels.
        n_labels: Labels that are kept.
        n_test: Most test pairs.
    """
    counts = Counter(target for _, target in data.train)
    kept = {label for label, _ in counts.most_common(n_labels)}
    train, validation, test = (
        [pair for pair in pairs if pair[1] in kept]
        for pairs in (data.train, data.validation, data.test)
    )
    return make_text_data(
        f"{data.name}_{n_labels}",
        train,
        validation,
        test[:n_test],
        data.max_input_tokens,
        data.max_target_tokens,
    )


def compare_criteria(curves: pd.DataFrame, n_samples_full: int) -> pd.DataFrame:
    """How well candidates are ranked for their accuracy at D_full by what was measured at D.

    The truth is the accuracy at D_full, averaged over seeds.

    Args:
        curves: Tidy table with the columns of `CRITERIA`.
        n_samples_full: D_full.

    Returns:
        One row per data set, seed, D ≤ D_full and criterion: `rank_correlation` (Spearman's) with
        the truth, and `regret`: how much accuracy at D_full the first of the ranking lacks.
    """
    rows: list[dict[str, Any]] = []
    for dataset, task in curves.groupby("dataset"):
        full = task[task["n_samples"] == n_samples_full]
        truth = full.groupby("model")["accuracy"].mean()
        for (seed, n_samples), point in task.groupby(["seed", "n_samples"]):
            values = point.set_index("model")
            if len(truth) < 3 or set(values.index) != set(truth.index):
                continue
            for name, column in CRITERIA.items():
                errors = values[column] if name != "accuracy" else 1.0 - values[column]
                errors = errors[truth.index]
                rows.append(
                    {
                        "dataset": dataset,
                        "seed": seed,
                        "n_samples": n_samples,
                        "criterion": name,
                        "rank_correlation": correlations(errors, 1.0 - truth)["spearman"],
                        "regret": regret(errors, 1.0 - truth),
                    }
                )
    return pd.DataFrame(rows, columns=_COLUMNS)


def criteria_table(compared: pd.DataFrame) -> str:
    """The comparison by D as Markdown: means over tasks and seeds, with their range."""
    lines = [
        "| D | by | rank correlation (range) | regret in accuracy (range) | tasks x seeds |",
        "|---|---|---|---|---|",
    ]
    for (n_samples, name), cells in compared.groupby(["n_samples", "criterion"]):
        r, lost = cells["rank_correlation"], cells["regret"]
        lines.append(
            f"| {n_samples} | {name} | {r.mean():.2f} ({r.min():.2f} to {r.max():.2f}) | "
            f"{lost.mean():.3f} ({lost.min():.3f} to {lost.max():.3f}) | {len(cells)} |"
        )
    return "\n".join(lines) + "\n"
