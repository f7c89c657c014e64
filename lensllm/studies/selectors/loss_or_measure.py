"""Does the loss at D tell which candidate has the best accuracy at D_full, or does the accuracy?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lensllm.data.pairs import TextData, make_text_data
from lensllm.evaluation.metrics import correlations, regret
from lensllm.evaluation.statistics import spearman_interval

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


def compare_criteria(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """How well candidates are ranked for their accuracy at D_full by what was measured at D.

    D_full is the largest size of a data set that all candidates have, and the truth the accuracy
    there, averaged over seeds.

    Args:
        curves: Tidy table with the columns of `CRITERIA`.

    Returns:
        One row per data set, seed, 0 < D ≤ D_full and criterion, but for the truth itself:
        `rank_correlation` (Spearman's) with the truth, its 80 % interval over candidates
        (`lower80`, `upper80`), and `regret`: how much accuracy at D_full the first of the ranking
        lacks.
    """
    rows: list[dict[str, Any]] = []
    for dataset, task in curves[curves["n_samples"] > 0].groupby("dataset"):
        n_models = task.groupby(["seed", "n_samples"])["model"].transform("nunique")
        points = task[n_models == task["model"].nunique()]
        if points.empty:
            continue
        full = int(points["n_samples"].max())
        truth = points[points["n_samples"] == full].groupby("model")["accuracy"].mean()
        for (seed, n_samples), point in points.groupby(["seed", "n_samples"]):
            values = point.set_index("model").loc[truth.index]
            for name, column in CRITERIA.items():
                if n_samples == full and column == "accuracy":
                    continue
                errors = 1.0 - values[column] if column == "accuracy" else values[column]
                low, high = spearman_interval(errors.to_numpy(), 1.0 - truth.to_numpy())
                rows.append(
                    {
                        "dataset": dataset,
                        "n_samples_full": full,
                        "seed": seed,
                        "n_samples": n_samples,
                        "criterion": name,
                        "rank_correlation": correlations(errors, 1.0 - truth)["spearman"],
                        "lower80": low,
                        "upper80": high,
                        "regret": regret(errors, 1.0 - truth),
                    }
                )
    return rows


def criteria_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison as Markdown."""
    lines = [
        "| task | seed | D | D_full | by | rank correlation (80 %) | accuracy lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        interval = f"{row['rank_correlation']:.2f} ({row['lower80']:.2f} to {row['upper80']:.2f})"
        lines.append(
            f"| {row['dataset']} | {row['seed']} | {row['n_samples']} | {row['n_samples_full']} | "
            f"{row['criterion']} | {interval} | {row['regret']:.3f} |"
        )
    return "\n".join(lines) + "\n"
