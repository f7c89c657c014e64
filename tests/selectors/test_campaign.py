import math
from dataclasses import replace

import pandas as pd
import pytest

from lensllm.core.events import Event
from lensllm.core.measures import LOSS_PER_BYTE
from lensllm.core.points import losses_by_size
from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Executor
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Candidate, NoCandidateError, Task
from lensllm.core.trials import Trial, TrialResult, TrialStore, results_table
from lensllm.execution.replay import ReplayRunner
from lensllm.reports.words import decision_words
from lensllm.selectors import Decision, SubTuning
from lensllm.selectors.base import Selector, ask_for
from lensllm.selectors.campaign import make_budget, run_campaign
from lensllm.selectors.cautions import tuning_warnings
from lensllm.selectors.known_trials import Ledger

SIZES = (0, 200, 400)
TASK = Task(
    "demo",
    (Candidate("a", 10.0), Candidate("b", 30.0)),
    800,
    {"a": SIZES, "b": SIZES},
    {(m, d): k * (d + 1.0) for m, k in (("a", 1.0), ("b", 3.0)) for d in (*SIZES, 800)},
    seed=5,
)


class TableRunner:
    """Answers trials by a formula, counts them, and may die on the way or find them in a store."""

    def __init__(self, store=None, die_at=None, diverging=()):
        self.store, self.die_at, self.diverging, self.ran = store, die_at, diverging, []

    def task(self):
        return TASK

    def run(self, trial):
        if self.store is not None and (found := self.store.get(trial)) is not None:
            return found
        if len(self.ran) == self.die_at:
            raise KeyboardInterrupt
        self.ran.append((trial.model, trial.n_samples))
        loss = {"a": 3.0, "b": 4.0}[trial.model] - (trial.n_samples / 1000) * (
            4 if trial.model == "b" else 1
        )
        bad = (trial.model, trial.n_samples) in self.diverging
        result = TrialResult(
            trial,
            "diverged" if bad else "completed",
            test_loss=math.nan if bad else loss,
            flops=0.5 * TASK.costs[trial.model, trial.n_samples],
        )
        if self.store is not None:
            self.store.add(result)
        return result


class StepByStep(Selector):
    """Asks for one size after the other while the budget lasts; ranks by the last loss."""

    def __init__(self):
        self.seen = []

    def ask(self, task, curves, budget):
        self.seen.append((len(curves), budget.spent))
        done = curves["n_samples"].nunique()
        if done == len(SIZES) or budget.remaining < 100:
            return Decision()
        pairs = [(name, size) for size in SIZES[: done + 1] for name in task.names]
        return ask_for(task, curves, pairs)

    def rank(self, task, curves):
        last = curves.dropna(subset=["test_loss"]).groupby("model")["test_loss"].last()
        names = sorted(task.names, key=lambda name: last.get(name, math.inf))
        ranking = tuple(RankedModel(name, last.get(name, math.nan)) for name in names)
        return Selection(
            self.name, task.dataset, task.n_samples_full, ranking, (Event("trained", "x"),)
        )


def test_the_loop_asks_runs_charges_and_ranks():
    runner, selector, budget, seen = TableRunner(), StepByStep(), Budget(10_000.0), []
    selection, curves = run_campaign(
        selector, runner, budget, lambda result, b: seen.append((result.trial, b.spent))
    )
    points = [(m, d) for d in SIZES for m in "ab"]
    assert runner.ran == points
    assert sorted(zip(curves["model"], curves["n_samples"], strict=True)) == sorted(points)
    charged = [0.5 * TASK.costs[point] for point in points]
    assert budget.spent == selection.cost_flops == sum(charged)
    assert selection.cost_fraction == sum(charged) / (801 * 4)
    assert [spent for _, spent in seen] == [sum(charged[: i + 1]) for i in range(6)]
    assert [trial for trial, _ in seen] == [Trial(m, "demo", d, 5) for m, d in points]
    assert selector.seen[:2] == [(0, 0.0), (2, sum(charged[:2]))]
    assert [entry.model for entry in selection.ranking] == ["b", "a"]
    assert selection.events[0] == Event("trained", "x")
    assert selection.events[1] == Event("ran", "a", 0, 3.0, "completed")
    assert len(selection.events) == 7


class Explaining(StepByStep):
    """Gives reasons; `b` is stopped after its first trial and gets another one all the same."""

    chances = (None, 0.001, 0.002, None, 0.003)
    models = ("ab", "a", "a", "b", "")

    def ask(self, task, curves, budget):
        n = len(self.seen)
        self.seen.append(n)
        trials = tuple(task.trial(model, SIZES[min(n, 2)]) for model in self.models[n])
        chance = self.chances[n]
        stopped = [] if chance is None else [Event("stopped", "b", 0, chance, "hopeless")]
        return Decision(trials, (*stopped, Event("round", value=n)))


def test_reasons_are_recorded_where_they_were_given():
    selection, _ = run_campaign(Explaining(), TableRunner(), Budget(10_000.0))
    found = [(e.kind, e.model, e.value) for e in selection.events[1:] if e.kind != "ran"]
    assert found == [
        ("round", "", 0),
        ("stopped", "b", 0.001),
        ("round", "", 1),
        ("round", "", 2),
        ("resumed", "b", None),
        ("round", "", 3),
        ("stopped", "b", 0.003),
        ("round", "", 4),
    ]
    assert selection.events[3] == Event("ran", "b", 0, 4.0, "completed")


def test_it_stops_when_the_selector_has_spent_enough():
    runner, budget = TableRunner(), Budget(450.0)
    run_campaign(StepByStep(), runner, budget)
    assert [size for _, size in runner.ran] == [0, 0, 200]
    # The next trial could cost 402, which is more than what is left.
    assert budget.remaining == 450.0 - 0.5 * (4 + 201)


def test_diverged_trials_are_charged_and_shown():
    runner, budget = TableRunner(diverging={("b", 200)}), Budget(10_000.0)
    selection, curves = run_campaign(StepByStep(), runner, budget)
    row = curves[(curves["model"] == "b") & (curves["n_samples"] == 200)].iloc[0]
    assert row["status"] == "diverged"
    assert math.isnan(row["test_loss"])
    assert Event("ran", "b", 200, reason="diverged") in selection.events
    assert budget.spent == sum(0.5 * TASK.costs[m, d] for d in SIZES for m in "ab")


@pytest.mark.parametrize("die_at", [0, 1, 3, 5])
def test_a_killed_campaign_goes_on_and_ends_as_if_it_had_not_been(tmp_path, die_at):
    whole, expected = run_campaign(StepByStep(), TableRunner(), Budget(10_000.0))
    store = TrialStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_campaign(StepByStep(), TableRunner(store, die_at), Budget(10_000.0))
    again = TableRunner(store)
    selection, curves = run_campaign(StepByStep(), again, Budget(10_000.0))
    assert len(again.ran) == 6 - die_at
    assert selection == whole
    pd.testing.assert_frame_equal(curves, expected)


def test_budgets():
    assert make_budget(TASK, fraction=0.25).flops == 0.25 * 801 * 4
    assert make_budget(TASK, fraction=0.25, flops=7.0).flops == 7.0
    for options, message in (
        ({}, r"budget\.fraction or budget\.flops, got neither"),
        ({"fraction": 0.0}, r"budget\.fraction > 0, got 0"),
        ({"fraction": -0.5}, r"budget\.fraction > 0, got -0\.5"),
        ({"fraction": math.nan}, r"budget\.fraction > 0, got nan"),
        ({"flops": -1.0}, r"FLOPs > 0, got -1"),
        ({"flops": 0.0}, r"FLOPs > 0, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_budget(TASK, **options)


class FailingRunner(TableRunner):
    """Candidate b fails at some sizes, for a price that is known or not."""

    def __init__(self, failing, flops=math.nan):
        super().__init__()
        self.failing, self.flops = failing, flops

    def run(self, trial):
        if (trial.model, trial.n_samples) in self.failing:
            self.ran.append((trial.model, trial.n_samples))
            return TrialResult.failure(trial, f"no power at {trial.n_samples}", self.flops)
        return super().run(trial)


@pytest.mark.parametrize(("flops", "charged"), [(7.0, 7.0), (math.nan, 3 * 201.0)])
def test_a_failed_trial_is_a_result_that_costs_what_it_cost(flops, charged):
    runner, budget = FailingRunner({("b", 200)}, flops), Budget(10_000.0)
    selection, curves = run_campaign(StepByStep(), runner, budget)
    ran = sum(0.5 * TASK.costs[pair] for pair in runner.ran if pair != ("b", 200))
    assert budget.spent == pytest.approx(ran + charged)
    row = curves[(curves["model"] == "b") & (curves["n_samples"] == 200)].iloc[0]
    assert (row["status"], row["reason"], row["flops"]) == ("failed", "no power at 200", charged)
    assert [entry.model for entry in selection.ranking] == ["b", "a"]  # its other sizes count
    failed = Event("ran", "b", 200, reason="failed", message="no power at 200", error_code="error")
    assert failed in selection.events


def test_a_candidate_is_set_aside_after_so_many_failures():
    runner = FailingRunner({("b", 0), ("b", 200), ("b", 400)})
    selector = StepByStep()
    selection, _ = run_campaign(selector, runner, Budget(10_000.0))
    assert [pair for pair in runner.ran if pair[0] == "b"] == [("b", 0), ("b", 200)]
    assert [entry.model for entry in selection.ranking] == ["a", "b"]
    assert selection.ranking[1].status == "failed: no power at 200"
    assert Event("set_aside", "b", message="no power at 200") in selection.events
    assert selection.cost_fraction == pytest.approx(selection.cost_flops / TASK.full_cost)
    once = run_campaign(StepByStep(), FailingRunner({("b", 0)}), Budget(1e4), max_failures=1)[0]
    assert once.ranking[1].status == "failed: no power at 0"


def test_a_campaign_whose_candidates_all_fail_says_why():
    runner = FailingRunner({(model, size) for model in "ab" for size in SIZES})
    with pytest.raises(NoCandidateError, match=r"a: no power at 200; b: no power at 200"):
        run_campaign(StepByStep(), runner, Budget(10_000.0))


def test_candidates_that_could_not_be_tried_are_ranked_last_with_the_reason():
    class Reduced(TableRunner):
        def task(self):
            return TASK.without({"b": "its weights are cut short"})

    selection, _ = run_campaign(StepByStep(), Reduced(), Budget(10_000.0))
    assert [(entry.model, entry.status) for entry in selection.ranking] == [
        ("a", "ranked"),
        ("b", "failed: its weights are cut short"),
    ]
    assert selection.events[1] == Event("left_out", "b", message="its weights are cut short")
    with pytest.raises(NoCandidateError, match="a: no; b: no"):
        TASK.without({"a": "no", "b": "no"})


def curve(model, *losses):
    return [
        TrialResult(Trial(model, "demo", 200 * i), "completed", test_loss=loss)
        for i, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("curves", "warned"),
    [
        ([curve("a", 5.0, 9.0, 1e6), curve("b", 4.0, math.nan)], True),
        ([curve("a", 5.0, 9.0, 4.9), curve("b", 4.0, 8.0)], False),
        ([curve("a", 5.0), curve("b", 4.0, 8.0)], True),
        ([curve("a", 5.0), curve("b", 4.0)], False),
        ([curve("a", math.nan, 4.0)], False),
    ],
)
def test_fine_tuning_that_made_everything_worse_is_said(curves, warned):
    table = results_table([result for part in curves for result in part])
    assert bool(tuning_warnings(table)) == warned


@pytest.mark.parametrize(("tuned", "warned"), [(6.2, False), (6.3, True), (math.nan, True)])
def test_a_few_pairs_before_fine_tuning_tell_roughly(tuned, warned):
    table = results_table(curve("a", math.nan, tuned)[1:])
    assert bool(tuning_warnings(table, {"a": 5.0, "b": 1.0})) == warned
    assert not tuning_warnings(table, {"b": 1.0})


def test_curves_of_earlier_tasks_are_known_to_the_selector_and_have_the_measure():
    class Looking(StepByStep):
        def rank(self, task, curves):
            assert task.prior_curves is prior
            return super().rank(task, curves)

    rows = [{"model": "a", "dataset": "x", "n_samples": 200, "seed": 0, "test_loss": 3.0}]
    prior = PriorCurves(pd.DataFrame(rows))
    run_campaign(Looking(), TableRunner(), Budget(10_000.0), prior_curves=prior)

    class ByByte(TableRunner):
        def task(self):
            return replace(TASK, measure=LOSS_PER_BYTE)

    with pytest.raises(ValueError, match=r"'test_loss_per_byte' in the curves of earlier tasks"):
        run_campaign(StepByStep(), ByByte(), Budget(10_000.0), prior_curves=prior)


def test_a_campaign_by_another_measure_says_what_it_measured():
    class ByByte(TableRunner):
        def task(self):
            return replace(TASK, measure=LOSS_PER_BYTE)

        def run(self, trial):
            result = super().run(trial)
            return replace(result, test_loss_per_byte=result.test_loss / 4)

    class Deep(StepByStep):
        def rank(self, task, curves):
            losses = losses_by_size(curves, task.measure)
            entries = [RankedModel(model, losses[model][400]) for model in task.names]
            return Selection.of(self.name, task, entries)

    selection, curves = run_campaign(Deep(), ByByte(), Budget(10_000.0))
    assert selection.best == RankedModel("b", (4.0 - 1.6) / 4)
    assert selection.measure is LOSS_PER_BYTE
    assert selection.events[0] == Event("ran", "a", 0, 0.75, "completed")
    assert set(curves["test_loss"] / curves["test_loss_per_byte"]) == {4.0}
    assert decision_words(selection)[0] == "ran a at D = 0: test loss per byte 0.7500"


class GivenOrder(Executor):
    """Two places; of the running trials, the one that is named first in `order` ends first."""

    n_workers = 2

    def __init__(self, order=()):
        super().__init__()
        self.order, self.most = list(order), 0

    def next(self):
        running = list(self._started)[: self.n_workers]
        self.most = max(self.most, len(running))
        ends = min(running, key=lambda pair: self.order.index(pair[1].point))
        self._started.remove(ends)
        return ends[1], ends[0].run(ends[1])


class Walk(Selector):
    """Asks for the next size of every candidate whose trials have ended, while it is affordable."""

    asks_early = True

    def __init__(self):
        self.seen = []

    def ask(self, task, curves, budget):
        self.seen.append((tuple(curves["key"]), tuple(budget.pending)))
        pairs = []
        for model in task.names:
            sizes = [n for n in task.available[model] if (model, n) not in budget.pending]
            done = set(curves.loc[curves["model"] == model, "n_samples"])
            left = [n for n in sizes if n not in done]
            if left and all(model != running for running, _ in budget.pending):
                pairs.append((model, left[0]))
        left = budget.remaining
        chosen = []
        for pair in pairs:
            if task.costs[pair] <= left:
                left -= task.costs[pair]
                chosen.append(pair)
        return ask_for(task, curves, chosen)

    rank = StepByStep.rank


POINTS = [(model, size) for model in "ab" for size in SIZES]


def order_of(selection):
    return [(e.model, e.n_samples) for e in selection.events if e.kind == "ran"]


def test_a_campaign_asks_again_when_a_place_is_free_and_reserves_what_runs():
    selector, executor = Walk(), GivenOrder(POINTS)
    selection, _ = run_campaign(selector, TableRunner(), Budget(1e4), executor=executor)
    # `b` at D = 0 is still running when `a` has come to its largest size.
    assert order_of(selection) == [("a", 0), ("a", 200), ("a", 400), *POINTS[3:]]
    assert selector.seen[2][1] == (("b", 0),)
    assert executor.most == 2
    waiting = StepByStep()
    assert not waiting.asks_early
    run_campaign(waiting, TableRunner(), Budget(1e4), executor=GivenOrder(POINTS))
    assert [n for n, _ in waiting.seen] == [0, 2, 4, 6]  # only when a whole decision has ended


@pytest.mark.parametrize("flops", [250.0, 700.0, 1205.0])
def test_what_runs_is_never_paid_for_twice(flops):
    class Whole(TableRunner):
        def run(self, trial):
            return replace(super().run(trial), flops=TASK.costs[trial.point])

    for order in (POINTS, POINTS[::-1]):
        budget = Budget(flops)
        run_campaign(Walk(), Whole(), budget, executor=GivenOrder(order))
        assert 0 < budget.spent <= flops
        assert not budget.pending


def test_the_same_order_of_arrival_gives_the_same_decisions(tmp_path):
    def play(order, ledger, runner=None):
        selector = Walk()
        runner = runner or TableRunner(store=TrialStore(tmp_path / "store"))
        chosen, _ = run_campaign(
            selector, runner, Budget(1e4), executor=GivenOrder(order), ledger=ledger
        )
        return chosen, selector.seen

    first = Ledger(tmp_path, "k")
    first.open([])
    whole, asked = play(POINTS, first)
    for n_kept in (0, 2, 5):
        killed = Ledger(tmp_path, f"k{n_kept}")
        killed.open([])
        for point in order_of(whole)[:n_kept]:
            killed.add(TASK.trial(*point))
        resumed = Ledger(tmp_path, f"k{n_kept}")
        resumed.open([])
        # Now `b` ends first: the recorded part of the order is kept all the same.
        again, asked_again = play(POINTS[::-1], resumed)
        assert order_of(again)[:n_kept] == order_of(whole)[:n_kept]
        assert asked_again[: n_kept + 1] == asked[: n_kept + 1]
        assert resumed.arrivals == order_of(again)
        assert (order_of(again) == order_of(whole)) is (n_kept == 5)
    assert first.arrivals == order_of(whole)


def test_an_order_that_does_not_fit_is_forgotten(tmp_path):
    ledger = Ledger(tmp_path, "k")
    ledger.open([])
    for point in (("a", 0), ("b", 400), ("a", 200)):
        ledger.add(TASK.trial(*point))
    again = Ledger(tmp_path, "k")
    again.open([])
    selection, _ = run_campaign(
        Walk(), TableRunner(), Budget(1e4), executor=GivenOrder(POINTS), ledger=again
    )
    assert again.arrivals == order_of(selection)
    assert len(again.arrivals) == len(POINTS)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_selector_that_repeats_itself_is_charged_once_and_ends(make_task, make_curves, n_workers):
    class Repeats(SubTuning):
        def ask(self, task, curves, budget):
            trials = [task.trial(model, 200) for model in task.names]
            return Decision((*trials, trials[0]))

    runner = ReplayRunner(
        make_curves({m: {200: 3.0, 400: 2.0, 6400: 1.0} for m in "abc"}), "demo", 6400
    )
    budget = make_budget(runner.task(), fraction=0.5)
    executor = Executor()
    executor.n_workers = n_workers
    selection, curves = run_campaign(Repeats(), runner, budget, executor=executor)
    assert len(curves) == 3
    assert selection.cost_flops == sum(runner.task().costs[model, 200] for model in "abc")


def test_a_selector_that_ignores_its_budget_is_held_to_it(make_curves):
    class Spends(SubTuning):
        def ask(self, task, curves, budget):
            return Decision(tuple(task.trial(m, n) for n in (200, 400) for m in task.names))

    curves = make_curves({m: {200: 3.0, 400: 2.0, 6400: 1.0} for m in "abc"})
    runner = ReplayRunner(curves, "demo", 6400)
    budget = make_budget(runner.task(), fraction=0.08)
    run_campaign(Spends(), runner, budget)
    assert 0 < budget.spent <= budget.flops
