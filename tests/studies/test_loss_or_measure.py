import pandas as pd
import pytest

from lensllm.data.pairs import make_text_data
from lensllm.studies.selectors.loss_or_measure import (
    compare_criteria,
    criteria_table,
    most_frequent_labels,
)

# Accuracy and loss per byte by candidate: at D = 100 the losses are in the order of accuracies at
# D = 400, the accuracies are not. One candidate has no trial at D = 800.
POINTS = {
    100: {"a": (0.1, 0.1), "b": (0.3, 0.2), "c": (0.2, 0.3), "d": (0.4, 0.4)},
    400: {"a": (0.9, 0.1), "b": (0.8, 0.3), "c": (0.7, 0.2), "d": (0.6, 0.4)},
    800: {"a": (0.9, 0.1), "b": (0.9, 0.1), "c": (0.9, 0.1)},
}


def test_each_criterion_is_compared_with_the_accuracy_at_the_largest_size_of_all():
    curves = pd.DataFrame(
        [
            {
                "dataset": "demo", "model": model, "seed": 0, "n_samples": n,
                "accuracy": accuracy, "test_loss_per_byte": loss,
            }
            for n, point in POINTS.items()
            for model, (accuracy, loss) in point.items()
        ]
    )  # fmt: skip
    rows = compare_criteria(curves)
    found = {(row["n_samples"], row["criterion"]): row for row in rows}
    assert set(found) == {(100, "loss per byte"), (100, "accuracy"), (400, "loss per byte")}
    assert {row["n_samples_full"] for row in rows} == {400}
    assert found[100, "loss per byte"]["rank_correlation"] == pytest.approx(1.0)
    assert found[100, "loss per byte"]["regret"] == 0
    assert found[100, "accuracy"]["rank_correlation"] == pytest.approx(-0.8)
    assert found[100, "accuracy"]["regret"] == pytest.approx(0.3)  # it would take d
    assert found[400, "loss per byte"]["rank_correlation"] == pytest.approx(0.8)
    assert "| demo | 0 | 100 | 400 | accuracy | -0.80 (" in criteria_table(rows)


def test_pairs_with_the_most_frequent_labels_are_kept():
    pairs = [(f"x{i}", "abbccc"[i % 6]) for i in range(60)]
    data = most_frequent_labels(make_text_data("t", pairs, pairs[:12], pairs[:12]), 2, n_test=3)
    assert data.name == "t_2"
    assert {target for _, target in data.train} == {"b", "c"}
    assert (len(data.train), len(data.test)) == (50, 3)
