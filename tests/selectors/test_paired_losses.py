import math
import re
from dataclasses import replace

import numpy as np
import pytest

from lensllm.core.example_losses import ExampleLosses
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.task import Budget
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.selectors import Adaptive, SubTuning, run_campaign
from lensllm.selectors.paired_losses import (
    covariance_over_examples,
    evaluation_share,
    evidence_of,
    examples_by_size,
)

N = 400


def result(model, n_samples, losses, **fields):
    """A trial whose test examples have one target token each."""
    ones = np.ones(len(losses))
    examples = ExampleLosses(np.asarray(losses), ones, 4 * ones)
    return TrialResult(
        Trial(model, "demo", n_samples),
        "completed",
        test_loss=examples.loss(),
        test_loss_se=examples.standard_error(),
        examples=examples.to_json(),
        **fields,
    )


@pytest.fixture
def losses():
    """Losses of single examples: hard ones are hard for all, and b is 0.02 behind a."""
    rng = np.random.default_rng(0)
    hard = rng.gamma(4.0, 0.5, N)
    return {
        model: hard + behind + rng.normal(0, 0.2, N)
        for model, behind in (("a", 0.0), ("b", 0.02), ("c", 0.4))
    }


@pytest.fixture
def curves(losses):
    """All at 200, a and b at 400; c at 800 with one example fewer."""
    rows = [result(m, 200, 1.1 * x, flops=8.0, train_flops=6.0) for m, x in losses.items()]
    rows += [result(m, 400, losses[m], flops=12.0, train_flops=9.0) for m in "ab"]
    rows += [result("c", 800, losses["c"][1:], flops=20.0, train_flops=15.0)]
    return results_table(rows, examples=True)


def selection_of(verdict=None, predicted=(1.8, 1.82, 2.2)):
    ranking = tuple(RankedModel(m, x, x) for m, x in zip("abc", predicted, strict=True))
    return Selection("demo", "demo", 1600, ranking, "r", verdict=verdict)


def test_differences_are_paired_at_the_largest_common_size(losses, curves):
    verdict = Verdict("too_close_to_call", ("a", "b", "c"), 0.9, 0.01)
    found = {item.model: item for item in evidence_of(selection_of(verdict), curves).differences}
    for model, n_samples, scale in (("b", 400, 1.0), ("c", 200, 1.1)):
        apart = scale * (losses[model] - losses["a"])
        item = found[model]
        assert item.n_samples == n_samples
        assert item.difference == pytest.approx(apart.mean(), abs=2e-4)
        error = apart.std(ddof=1) / math.sqrt(N)
        assert item.standard_error == pytest.approx(error, rel=1e-2)
        assert item.z == pytest.approx(apart.mean() / error, rel=2e-2)


def test_without_a_verdict_the_second_is_compared_with_the_first(curves):
    assert [item.model for item in evidence_of(selection_of(), curves).differences] == ["b"]


def test_as_many_examples_as_are_said_to_be_enough_are_enough(losses, curves):
    evidence = evidence_of(selection_of(predicted=(1.8, 1.84, 2.2)), curves)
    error = (losses["b"] - losses["a"]).std(ddof=1) / math.sqrt(N) / losses["a"].mean() * 1.8
    assert evidence.standard_error == pytest.approx(error, rel=1e-2)
    assert evidence.apart == pytest.approx(0.04)
    there = evidence.standard_error * math.sqrt(N / evidence.n_enough)
    assert there == pytest.approx(evidence.apart / 2)
    assert evidence.warnings == ()


def test_what_is_too_close_to_matter_need_not_be_told(curves):
    close = evidence_of(selection_of(predicted=(1.8, 1.8001, 2.2)), curves)
    assert close.apart == pytest.approx(0.018)
    assert close.n_enough > N
    told = re.search(r"about ([\d ]+) test examples would be enough", close.warnings[0])[1]
    assert float(told.replace(" ", "")) == pytest.approx(close.n_enough, rel=0.05)


def test_selectors_that_predict_no_loss_get_no_advice(curves):
    evidence = evidence_of(selection_of(predicted=(math.nan,) * 3), curves)
    assert math.isnan(evidence.n_enough)
    assert evidence.warnings == ()


def test_nothing_is_said_of_losses_that_were_not_kept(curves):
    plain = curves.drop(columns="examples")
    assert examples_by_size(plain) == {}
    assert evidence_of(selection_of(), plain) is None
    assert not covariance_over_examples("abc", plain).any()


def test_covariances_leave_out_who_was_measured_on_other_examples(losses, curves):
    found = covariance_over_examples("xabc", curves)
    expected = np.cov(losses["a"] / losses["a"].mean(), losses["b"] / losses["b"].mean()) / N
    assert found[1:3, 1:3] == pytest.approx(expected, rel=1e-2)
    assert not found[[0, 3]].any()
    assert not found[:, [0, 3]].any()


def test_evaluation_is_what_training_leaves(curves):
    assert evaluation_share(curves) == pytest.approx(0.25)
    assert math.isnan(evaluation_share(curves.assign(train_flops=0.0)))
    assert math.isnan(evaluation_share(curves[["model", "status", "flops"]]))


class ExampleRunner:
    """Curves that fall by a tenth a doubling, b a tenth above a, on few or many examples."""

    def __init__(self, task, n_examples):
        self._task, self.n_examples = task, n_examples

    def task(self):
        return self._task

    def run(self, trial):
        rng = np.random.default_rng(0)
        hard = rng.gamma(4.0, 0.25, self.n_examples)
        own = np.random.default_rng(ord(trial.model)).normal(0, 0.3, self.n_examples)
        level = {"a": 1.0, "b": 1.1, "c": 1.5}[trial.model]
        loss = level * (trial.n_samples / 200) ** -0.15
        losses = loss * (hard / hard.mean() + own - own.mean())
        cost = self._task.costs[trial.model, trial.n_samples]
        found = result(trial.model, trial.n_samples, losses, flops=cost, train_flops=0.75 * cost)
        return replace(found, test_loss_se=math.nan)  # which would tell curves less well as well


@pytest.mark.parametrize(("n_examples", "is_clear"), [(30, False), (20_000, True)])
def test_a_choice_is_clear_only_where_the_test_set_can_tell_it(make_task, n_examples, is_clear):
    """The curves are the same, and known well; the test set is of 30 examples or of many."""
    task = make_task("abc", full=1600, sizes=(100, 200, 400, 800))
    runner = ExampleRunner(task, n_examples)
    selection, curves = run_campaign(Adaptive(), runner, Budget(10 * task.full_cost))
    assert selection.best.model == "a"
    assert (selection.verdict.kind == "clear") == is_clear
    assert any("test examples would be enough" in x for x in selection.warnings) != is_clear
    assert "examples" not in curves
    assert selection.evaluation_share == pytest.approx(0.25)


def test_other_selectors_have_the_differences_too(make_task):
    task = make_task("abc", full=1600, sizes=(100, 200, 400, 800))
    selection, _ = run_campaign(SubTuning(), ExampleRunner(task, 50), Budget(task.full_cost))
    (item,) = selection.evidence.differences
    assert item.model == "b"
    assert item.difference == pytest.approx(0.1 * 4**-0.15, rel=1e-2)
