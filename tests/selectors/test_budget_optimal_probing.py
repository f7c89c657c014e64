import math

import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.selectors import BudgetOptimalProbing

SIZES = (200, 400, 800, 1600)


def play(selector, task, make_curves, budget, loss):
    seen, rounds = {m: {} for m in task.names}, []
    while trials := selector.ask(task, make_curves(seen), budget).trials:
        rounds.append([(t.model, t.n_samples) for t in trials])
        for t in trials:
            budget.charge(task.costs[t.model, t.n_samples])
            seen[t.model][t.n_samples] = loss(t.model, t.n_samples)
    return selector.rank(task, make_curves(seen)), rounds


def clear(model, d):
    """Three candidates near each other, one far behind."""
    return {"a": 3.0, "b": 3.02, "c": 3.04, "d": 9.0}[model] - 0.0001 * d


def test_the_one_far_behind_gets_no_second_probe_and_the_reason_is_said(make_task, make_curves):
    task = make_task("abcd", sizes=SIZES, full=6400)
    budget = Budget(flops=9_000.0)
    selection, rounds = play(BudgetOptimalProbing(), task, make_curves, budget, clear)
    assert rounds[0] == [(m, 200) for m in "abcd"]
    assert [m for m, _ in rounds[1]] == ["a", "b", "c"]
    assert selection.best.model == "a"
    assert selection.ranking[-1].model == "d"
    assert sum(entry.p_best for entry in selection.ranking) == pytest.approx(1.0)
    assert math.isnan(selection.best.predicted_loss)
    seen = make_curves({m: {200: clear(m, 200)} for m in task.names})
    decision = BudgetOptimalProbing().ask(task, seen, Budget(flops=9_000.0, spent=2_000.0))
    (stopped,) = decision.events
    assert (stopped.kind, stopped.model, stopped.reason) == ("stopped", "d", "breadth")
    assert stopped.message.startswith(
        "6 nats behind at c = 0.0312; the budget is better spent on the 3 best"
    )


@pytest.mark.parametrize("flops", [2_000.0, 5_000.0, 9_000.0])
def test_never_spends_more_than_the_budget(make_task, make_curves, flops):
    budget = Budget(flops=flops)
    task = make_task("abcd", sizes=SIZES, full=6400)
    selection, _ = play(BudgetOptimalProbing(), task, make_curves, budget, clear)
    assert budget.spent <= flops
    assert selection.best.model == "a"


def test_a_price_ends_it_before_the_budget_does(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=6400)
    free, _ = play(BudgetOptimalProbing(), task, make_curves, Budget(), clear)
    law = {"intrinsic": 0.02, "scale": 0.05, "decay": 0.5}  # −V'(c) = 1 at c = 0.085: D = 546
    selector = BudgetOptimalProbing(**law, price=1.0)
    priced, rounds = play(selector, task, make_curves, Budget(), clear)
    assert {d for wave in rounds for _, d in wave} == {200, 400, 800}
    assert free.best.model == priced.best.model


def test_diverged_candidates_come_last(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=6400)

    def loss(model, d):
        return math.nan if model == "a" else clear(model, d)

    selection, _ = play(BudgetOptimalProbing(), task, make_curves, Budget(), loss)
    assert selection.best.model == "b"
    assert selection.ranking[-1].status == "diverged at D = 200"


def test_too_small_a_budget_and_bad_settings_are_refused(make_task, make_curves):
    task = make_task("abcd", sizes=SIZES, full=6400)
    with pytest.raises(BudgetTooSmallError, match=r"at least 2e\+03 FLOPs .* D = 200; got 1e\+03"):
        BudgetOptimalProbing().ask(task, make_curves({}), Budget(flops=1e3))
    with pytest.raises(ValueError, match=r"`decay` > 0, got 0, 0.13 and 0"):
        BudgetOptimalProbing(decay=0.0)
    with pytest.raises(ValueError, match="`price` >= 0, got -1"):
        BudgetOptimalProbing(price=-1)
