import math
import re
import time
from dataclasses import replace

import pytest

from lensllm.core.amounts import Amount, read_amount
from lensllm.core.protocols import Runner
from lensllm.core.task import BudgetTooSmallError, Candidate, Task
from lensllm.core.trials import TrialResult
from lensllm.selectors import Adaptive, SubTuning
from lensllm.selectors.campaign import run_campaign
from lensllm.selectors.durations import MARGIN, predicted_seconds
from lensllm.selectors.time_budget import TimeBudget, budget_of

SIZES = (100, 200, 400, 800)
FULL = 3200
FLOPS = {"a": 1.0, "b": 3.0, "c": 2.0}  # per sample
PACE = 0.01  # seconds per FLOP
LOAD = 2.0  # seconds
TASK = Task(
    "demo",
    tuple(Candidate(name, 10.0) for name in FLOPS),
    FULL,
    dict.fromkeys(FLOPS, SIZES),
    {(name, n): rate * n for name, rate in FLOPS.items() for n in (*SIZES, FULL)},
)


def seconds(model, n_samples):
    return LOAD + PACE * FLOPS[model] * n_samples


class ClockRunner(Runner):
    """Trials that move a clock."""

    def __init__(self, clock, slow=()):
        self.clock, self.slow, self.started = clock, slow, []

    def task(self):
        return TASK

    def run(self, trial):
        self.started.append(self.clock.now)
        took = seconds(trial.model, trial.n_samples)
        result = TrialResult(
            trial,
            "completed",
            {"a": 2.0, "b": 1.9, "c": 2.4}[trial.model] + 5 * trial.n_samples**-0.5,
            flops=TASK.costs[trial.model, trial.n_samples],
            seconds=took,
            compute_seconds=took - LOAD,
        )
        if trial.model in self.slow:
            result = replace(result, status="timed_out", test_loss=math.nan)
        self.clock.now += took
        return result


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


def result(model, n_samples, **values):
    took = seconds(model, n_samples)
    flops = TASK.costs[model, n_samples]
    fields = {"flops": flops, "seconds": took, "compute_seconds": took - LOAD, **values}
    return TrialResult(TASK.trial(model, n_samples), "completed", 2.0, **fields)


def test_the_time_of_a_trial_is_that_of_loading_and_of_its_flops():
    compute = 2 * (seconds("b", 200) - LOAD)
    slow = result("b", 200, seconds=LOAD + compute, compute_seconds=compute)
    found = predicted_seconds(TASK, [result("a", 100), slow])
    for model, pace in (("a", PACE), ("b", 2 * PACE), ("c", 1.5 * PACE)):  # c: the others' median
        for n in (*SIZES, FULL):
            expected = LOAD + pace * FLOPS[model] * n
            assert found[model, n] == pytest.approx(MARGIN * expected)


def test_a_time_without_its_parts_is_an_upper_estimate_for_larger_trials():
    found = predicted_seconds(TASK, [result("a", 100, compute_seconds=math.nan)])
    assert found["a", 100] == pytest.approx(MARGIN * seconds("a", 100))
    assert found["a", FULL] == pytest.approx(MARGIN * seconds("a", 100) * FULL / 100)
    with pytest.raises(ValueError, match="at least one trial that was timed"):
        predicted_seconds(TASK, [result("a", 100, seconds=0.0)])


@pytest.mark.parametrize("selector", [Adaptive(), SubTuning()])
@pytest.mark.parametrize("limit", [25.0, 60.0, 120.0])
def test_no_trial_is_started_that_does_not_fit(clock, selector, limit):
    runner, start = ClockRunner(clock), clock.now
    budget = TimeBudget(limit, started=start)
    selection, curves = run_campaign(selector, runner, budget)
    assert clock.now - start <= limit
    assert selection.cost_seconds == pytest.approx(clock.now - start)
    assert selection.cost_flops == pytest.approx(curves["flops"].sum())
    assert set(curves["model"]) == set("abc")
    assert (curves["n_samples"].iloc[0], curves["model"].iloc[0]) == (100, "a")  # the cheapest


def test_more_time_measures_more(clock):
    spent = []
    for limit in (25.0, 40.0, 70.0):
        start = clock.now
        run_campaign(SubTuning(), ClockRunner(clock), TimeBudget(limit, started=start))
        spent.append(clock.now - start)
    assert spent[0] < spent[1] < spent[2]


def test_a_budget_that_is_too_short_says_so_after_the_first_trial(clock):
    runner = ClockRunner(clock)
    with pytest.raises(BudgetTooSmallError, match=r"got 6s.* took 3s") as refused:
        run_campaign(Adaptive(), runner, TimeBudget(6.0, started=clock.now))
    assert len(runner.started) == 1
    advised = read_amount(re.search(r"set budget='(.+?)'", str(refused.value))[1])
    enough = TimeBudget(advised.value, started=clock.now)
    selection, _ = run_campaign(Adaptive(), ClockRunner(clock), enough)
    assert selection.best.status == "ranked"


def test_money_is_time_at_a_price(clock):
    price = Amount(3600.0, "EUR")  # per hour: 1 EUR per second
    budget = budget_of(Amount(60.0, "EUR"), TASK, price, started=clock.now)
    start = clock.now
    selection, _ = run_campaign(SubTuning(), ClockRunner(clock), budget)
    assert budget.unit == "EUR"
    assert budget.spent == pytest.approx(clock.now - start)
    assert replace(selection, price_per_hour=3600.0).cost_money == pytest.approx(budget.spent)
    for other, message in ((None, "got none"), (Amount(1.0, "USD"), "got EUR and USD")):
        with pytest.raises(ValueError, match=message):
            budget_of(Amount(60.0, "EUR"), TASK, other)


def test_other_amounts_are_plain_budgets():
    assert budget_of(Amount(0.25, "share"), TASK).flops == 0.25 * TASK.full_cost
    assert budget_of(Amount(7.0, "FLOPs"), TASK).flops == 7.0
    with pytest.raises(ValueError, match="budget in samples, the costs of these trials"):
        budget_of(Amount(7.0, "FLOPs"), replace(TASK, cost_unit="samples"))


def test_what_an_interrupted_run_has_spent_counts(clock):
    budget = TimeBudget(60.0, started=clock.now, before=35.0)
    known = [result("a", 400), result("b", 400), result("c", 400)]
    start = clock.now
    selection, _ = run_campaign(SubTuning(), ClockRunner(clock), budget, known=known)
    assert clock.now - start <= 25.0
    assert selection.cost_seconds == pytest.approx(35.0 + clock.now - start)


def test_recorded_trials_take_no_time(clock):
    class Recorded(ClockRunner):
        def run(self, trial):
            return replace(super().run(trial), seconds=0.0)

    with pytest.raises(ValueError, match="got recorded ones"):
        run_campaign(SubTuning(), Recorded(clock), TimeBudget(60.0, started=clock.now))


def test_larger_trials_of_a_candidate_that_was_ended_are_not_started(clock):
    runner = ClockRunner(clock, slow={"b"})
    selection, curves = run_campaign(Adaptive(), runner, TimeBudget(120.0, started=clock.now))
    slow = curves[curves["status"] == "timed_out"]
    assert set(slow["model"]) == {"b"}
    assert slow["n_samples"].is_monotonic_decreasing
    last = selection.ranking[-1]
    assert (last.model, last.status) == ("b", f"timed out at D = {slow['n_samples'].iloc[0]}")
