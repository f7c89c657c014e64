import math

import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.reports.words import event_words
from lensllm.selectors.adaptive import Adaptive

NAMES = "abcdefgh"
SIZES = (0, 200, 400, 800, 1600, 3200, 6400)


def loss(model, d):
    """Candidates a to h: the first ones start worse and fall faster, and a ends best."""
    i = NAMES.index(model)
    return (5.0 - 0.1 * i) * (d / 200.0) ** (-0.20 + 0.02 * i)


def play(selector, task, make_curves, budget, truth=loss):
    """Run a campaign by hand: the selection, and every decision."""
    seen, decisions = {m: {} for m in task.names}, []
    while True:
        decision = selector.ask(task, make_curves(seen), budget)
        decisions.append(decision)
        if not decision.trials:
            return selector.rank(task, make_curves(seen)), decisions
        for trial in decision.trials:
            assert trial.n_samples not in seen[trial.model]
            budget.charge(task.costs[trial.model, trial.n_samples])
            seen[trial.model][trial.n_samples] = truth(trial.model, trial.n_samples)


def said(decision):
    """The words of the one event that is not about a single candidate."""
    (event,) = [event for event in decision.events if event.kind != "stopped"]
    return event_words(event)


@pytest.fixture
def task(make_task):
    return make_task(NAMES, sizes=SIZES, full=12800)


def test_it_starts_with_one_size_spends_on_contenders_and_finds_the_best(task, make_curves):
    budget = Budget(flops=0.3 * task.full_cost)
    selection, decisions = play(Adaptive(), task, make_curves, budget)
    first = decisions[0].trials
    assert [t.model for t in first] == list(NAMES)
    assert len({t.n_samples for t in first}) == 1
    assert selection.best.model == "a"
    assert selection.best.predicted_loss == pytest.approx(loss("a", 12800), rel=0.05)
    later = [t.model for decision in decisions[1:] for t in decision.trials]
    assert later.count("a") > later.count("h")
    assert any(event.kind == "stopped" for event in decisions[-1].events)
    low, high = selection.best.lower80, selection.best.upper80
    assert low < selection.best.predicted_loss < high
    assert sum(entry.p_best for entry in selection.ranking) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 1.0])
def test_never_spends_more_than_the_budget(task, make_curves, share):
    budget = Budget(flops=share * task.full_cost)
    play(Adaptive(), task, make_curves, budget)
    assert 0 < budget.spent <= budget.flops


def test_a_higher_price_stops_earlier_and_says_so(task, make_curves):
    spent = []
    for price in (0.0, 100.0):
        budget = Budget(flops=0.5 * task.full_cost)
        _, decisions = play(Adaptive(nats_per_full_tuning=price), task, make_curves, budget)
        spent.append(budget.spent)
        assert said(decisions[-1]).startswith("no more trials: ")
    assert spent[0] > spent[1]
    assert "none would change the choice for its price, with " in said(decisions[-1])


def test_reasons_name_the_trials_and_the_numbers(task, make_curves):
    _, decisions = play(Adaptive(), task, make_curves, Budget(flops=0.1 * task.full_cost))
    size = decisions[0].trials[0].n_samples
    words = f"start with D = {size} of a, b, c, d, e and 3 more: "
    assert said(decisions[0]).startswith(words)
    for decision in decisions[1:-1]:
        reason = said(decision)
        assert reason.startswith("next ")
        assert f"D = {decision.trials[0].n_samples}" in reason
        assert "is expected to lose" in reason
    stopped = [event for event in decisions[-1].events if event.kind == "stopped"]
    for event in stopped:
        assert event_words(event).startswith(f"stopped {event.model}: P(best) 0.00")


def test_the_same_questions_come_in_the_same_order(task, make_curves):
    runs = [play(Adaptive(), task, make_curves, Budget(0.2 * task.full_cost)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_finalists_get_two_sizes_where_the_budget_has_them(task, make_curves):
    budget = Budget(flops=0.3 * task.full_cost)
    selection, decisions = play(Adaptive(), task, make_curves, budget)
    asked = [t.model for decision in decisions for t in decision.trials]
    assert all(asked.count(model) >= 2 for model in selection.verdict.contenders)


def test_failed_trials_and_ragged_sizes(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=12800)
    ragged = {"a": SIZES, "b": (0, 200, 1600), "c": (400, 800)}
    task = type(task)(task.dataset, task.candidates, 12800, ragged, task.costs)

    def truth(model, d):
        return math.nan if model == "b" and d == 200 else loss(model, d)

    budget = Budget(flops=0.3 * task.full_cost)
    selection, decisions = play(Adaptive(), task, make_curves, budget, truth)
    asked = [(t.model, t.n_samples) for decision in decisions for t in decision.trials]
    assert set(asked) <= {(m, n) for m, sizes in ragged.items() for n in sizes}
    if ("b", 200) in asked:
        assert ("b", 1600) in asked
    assert {entry.status for entry in selection.ranking} == {"ranked"}


def test_a_candidate_that_always_fails_gets_two_trials_and_comes_last(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=12800)
    selection, decisions = play(
        Adaptive(),
        task,
        make_curves,
        Budget(flops=1e9),
        lambda m, d: math.nan if m == "a" else loss(m, d),
    )
    assert selection.ranking[-1].model == "a"
    assert selection.ranking[-1].status == "no usable trial"
    assert [t.model for d in decisions for t in d.trials].count("a") == 2
    assert sum(entry.p_best for entry in selection.ranking[:2]) == pytest.approx(1.0)


def test_where_every_candidate_fails_the_campaign_ends(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=12800)
    selection, decisions = play(
        Adaptive(), task, make_curves, Budget(flops=1e9), lambda m, d: math.nan
    )
    assert said(decisions[-1]) == "no more trials: every candidate failed"
    assert {entry.status for entry in selection.ranking} == {"no usable trial"}
    assert selection.verdict is None


def test_a_budget_below_the_smallest_size_of_every_candidate_is_refused(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=12800)
    with pytest.raises(BudgetTooSmallError, match=r"at least 600 FLOPs \(1.56% .* got 50 "):
        Adaptive().ask(task, make_curves({}), Budget(flops=50.0))


def test_the_largest_size_of_the_papers_protocol_is_kept(task, make_curves):
    _, decisions = play(Adaptive(), task, make_curves, Budget(max_n_samples=800))
    assert max(t.n_samples for d in decisions for t in d.trials) == 800
    with pytest.raises(BudgetTooSmallError, match="n_samples <= 100"):
        Adaptive().ask(task, make_curves({}), Budget(max_n_samples=100))


@pytest.mark.parametrize("n_models", [1, 2])
def test_very_few_candidates(make_task, make_curves, n_models):
    task = make_task(NAMES[:n_models], sizes=SIZES, full=12800)
    selection, decisions = play(Adaptive(), task, make_curves, Budget(flops=1e9))
    assert selection.best.model == "a"
    assert said(decisions[-1]).startswith("no more trials")


def test_one_size_for_all_is_an_answer(make_task, make_curves):
    task = make_task("abc", sizes=(0, 200), full=3200)
    selection, _ = play(Adaptive(), task, make_curves, Budget(flops=1e9))
    assert selection.best.model == "c"
    assert selection.best.p_best < 0.9
    assert selection.verdict.kind != "clear"


def test_many_candidates_start_together(task, make_curves):
    """Hundreds of candidates: the start is decided on some of them, and asked of all."""
    names = [f"m{i}" for i in range(120)]
    many = type(task)(
        "demo",
        tuple(type(task.candidates[0])(name) for name in names),
        12800,
        dict.fromkeys(names, SIZES),
        {(name, n): float(n) for name in names for n in (*SIZES, 12800)},
    )
    budget = Budget(flops=0.05 * many.full_cost)
    decision = Adaptive().ask(many, make_curves({}), budget)
    assert [t.model for t in decision.trials] == names
    assert sum(many.costs[t.model, t.n_samples] for t in decision.trials) <= budget.flops


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`nats_per_full_tuning` >= 0, got -1"):
        Adaptive(nats_per_full_tuning=-1.0)


def test_while_trials_run_it_waits_for_first_losses_then_spends_what_is_not_reserved(
    task, make_curves
):
    budget = Budget(flops=0.3 * task.full_cost)
    first = Adaptive().ask(task, make_curves({}), budget).trials
    seen = {t.model: {t.n_samples: loss(t.model, t.n_samples)} for t in first[1:]}
    budget.pending[first[0].point] = task.costs[first[0].point]
    assert not Adaptive().ask(task, make_curves(seen), budget).trials

    seen[first[0].model] = {first[0].n_samples: loss(*first[0].point)}
    budget.pending.clear()
    asked = Adaptive().ask(task, make_curves(seen), budget).trials
    budget.pending |= {trial.point: task.costs[trial.point] for trial in asked}
    assert budget.remaining == budget.flops - sum(budget.pending.values())
    more = Adaptive().ask(task, make_curves(seen), budget).trials
    assert not {trial.point for trial in more} & budget.pending.keys()
    assert sum(task.costs[trial.point] for trial in more) <= budget.remaining
