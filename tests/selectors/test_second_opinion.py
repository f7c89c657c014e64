"""Campaigns by a measure: errors for selectors, the measure for people, and what the loss says."""

import math
from pathlib import Path

import numpy as np
import pytest

from lensllm.api.result import Result
from lensllm.core.example_losses import pack_scores
from lensllm.core.measures import MEASURES
from lensllm.core.task import Budget, Candidate, Task
from lensllm.core.trials import MeasureValue, TrialResult, results_table
from lensllm.reports.answer import answer_of
from lensllm.reports.leaderboard import leaderboard
from lensllm.reports.selection_report import selection_record
from lensllm.selectors import Adaptive, SubTuning, run_campaign
from lensllm.selectors.paired_losses import covariance_over_examples

SIZES = (200, 400, 800, 1600)
NAMES = ("a", "b", "c")
TASK = Task(
    "demo",
    tuple(map(Candidate, NAMES)),
    3200,
    dict.fromkeys(NAMES, SIZES),
    {(name, n): float(n) for name in NAMES for n in (*SIZES, 3200)},
    measure=MEASURES["accuracy"],
)


class Labels:
    """Candidates with losses and accuracies by formulas: `a` has the best loss."""

    def __init__(self, accuracies, n_examples=400):
        self.accuracies, self.n_examples = accuracies, n_examples

    def task(self):
        return TASK

    def run(self, trial):
        shown = self.accuracies[trial.model]
        right = np.arange(self.n_examples) < round(self.n_examples * shown(trial.n_samples))
        rng = np.random.default_rng([ord(trial.model), trial.n_samples])
        scores = rng.permutation(right.astype(float))
        spread = float(np.std(scores, ddof=1)) / math.sqrt(self.n_examples)
        value = MeasureValue(
            float(scores.mean()), spread, self.n_examples, pack_scores(scores.tolist())
        )
        loss = {"a": 1.0, "b": 1.5, "c": 2.0}[trial.model] + 5.0 * trial.n_samples**-0.5
        return TrialResult(
            trial,
            "completed",
            loss,
            test_loss_per_byte=0.25 * loss,
            measures={"accuracy": value},
            flops=float(trial.n_samples),
        )


RISING = {
    "a": lambda n: 0.55 + 0.01 * math.log2(n / 100),
    "b": lambda n: 0.80 + 0.02 * math.log2(n / 100),
    "c": lambda n: 0.60 + 0.01 * math.log2(n / 100),
}


@pytest.mark.parametrize("selector", [Adaptive(), SubTuning()], ids=["adaptive", "sub_tuning"])
def test_the_best_accuracy_is_chosen_and_the_loss_has_its_say(selector):
    selection, curves = run_campaign(selector, Labels(RISING), Budget(0.5 * TASK.full_cost))
    assert selection.best.model == "b"
    told = [event for event in selection.events if event.kind == "chosen_otherwise"]
    assert [(event.model, event.reason) for event in told] == [("a", "loss_per_byte")]
    warning = "by accuracy the choice is b, by test loss per byte it would be a"
    assert warning in selection.warnings
    unchecked = [w for w in selection.warnings if "intervals of accuracy hold" in w]
    assert len(unchecked) == math.isfinite(selection.best.lower80)
    record = selection_record(selection, curves, {}, {})
    assert (record["measure"], record["direction"], record["bound"]) == ("accuracy", "higher", 1.0)
    assert record["decisions"][-1] == (
        "ranked by loss_per_byte instead of accuracy, a would be first"
    )
    point = record["ranking"][0]["observed"][0]
    assert point["accuracy"] == pytest.approx(RISING["b"](point["n_samples"]), abs=0.003)
    assert "accuracy" in record["reason"]


def test_predictions_are_accuracies_and_regret_is_in_their_units():
    selection, curves = run_campaign(Adaptive(), Labels(RISING), Budget(0.5 * TASK.full_cost))
    best = selection.best
    assert 0.8 < best.lower80 < best.predicted_loss < best.upper80 < 1.0
    assert best.predicted_loss == pytest.approx(0.80 + 0.02 * 5, abs=0.05)
    assert selection.evidence.unit == "in accuracy"
    assert all(item.difference > 0 for item in selection.evidence.differences)  # behind
    assert 0 <= selection.verdict.expected_regret < 0.1
    assert "nats" not in str(answer_of(selection, curves))
    table = leaderboard(selection, curves)
    assert table["candidate"].tolist()[0] == "b"
    assert table["predicted_loss"].is_monotonic_decreasing
    shown = Result(selection, curves, Path()).leaderboard()
    assert shown["predicted_accuracy"].iloc[0] == best.predicted_loss
    assert not any("loss" in name for name in shown.columns.drop("loss_per_byte"))


def test_a_perfect_score_is_neither_certain_nor_beyond_the_bound():
    perfect = {**RISING, "b": lambda n: 1.0}
    selection, _ = run_campaign(Adaptive(), Labels(perfect, 50), Budget(0.5 * TASK.full_cost))
    best = selection.best
    assert best.model == "b"
    assert best.upper80 <= 1.0
    assert best.lower80 < 0.999
    seen = results_table(
        [Labels(perfect, 50).run(TASK.trial(m, 200)) for m in NAMES], examples=True
    )
    covariance = covariance_over_examples(NAMES, seen, TASK.measure)
    assert covariance[1, 1] == pytest.approx(2.0)  # (√½ / n over ½ / n)²
    assert covariance[0, 0] == pytest.approx(0.56 / 0.44 / 49)


def test_a_constant_measure_is_told():
    same = dict.fromkeys(NAMES, lambda n: 0.5)
    selection, _ = run_campaign(SubTuning(), Labels(same), Budget(0.5 * TASK.full_cost))
    assert any("accuracy is 0.5000 in all" in warning for warning in selection.warnings)
