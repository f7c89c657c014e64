import math
from dataclasses import dataclass

import numpy as np
import pytest

from lensllm.selection import Budget, BudgetTooSmallError
from lensllm.selection.adaptive import Adaptive
from lensllm.selection.draws import LossDraws
from lensllm.selection.points import finite_points, losses_by_size

SIZES = (0, 200, 400, 800, 1600, 3200, 6400)
NAMES = "abcdefgh"


@dataclass(frozen=True)
class BayesianLine:
    """A Bayesian line of log loss on log D per candidate: what a test needs of a predictor."""

    sd: tuple[float, float] = (0.5, 0.05)  # of the level at D = 200 and of the slope
    noise: float = 0.005
    n_needed: int = 1

    def draws(self, task, curves, sizes, *, n_draws, seed):
        rng = np.random.default_rng(seed)
        seen = losses_by_size(curves)
        grid = np.log(np.array(sizes) / 200.0)
        models, columns = [], []
        for model in task.names:
            points, losses = finite_points(seen.get(model, {}), include_zero=False)
            if len(points) < self.n_needed:
                continue
            design = np.stack([np.ones(len(points)), np.log(points / 200.0)], axis=1)
            precision = design.T @ design / self.noise**2 + np.diag(1.0 / np.square(self.sd))
            spread = np.linalg.inv(precision)
            mean = spread @ (
                design.T @ np.log(losses) / self.noise**2
                + np.array([1.5, -0.15]) / np.square(self.sd)
            )
            lines = rng.multivariate_normal(mean, spread, size=n_draws)
            columns.append(lines[:, :1] + lines[:, 1:] * grid)
            models.append(model)
        log_loss = np.stack(columns, axis=1) if models else np.zeros((n_draws, 0, len(grid)))
        return LossDraws(tuple(models), tuple(sizes), log_loss, np.full(len(models), self.noise))


def loss(model, d):
    """Candidates a to h: the first ones start worse and fall faster, and a ends best."""
    i = NAMES.index(model)
    return (5.0 - 0.1 * i) * (d / 200.0) ** (-0.20 + 0.02 * i)


def play(selector, task, make_curves, budget, truth=loss):
    """Run a campaign by hand: the selection, and (trials, reasons, stopped) of every decision."""
    seen, decisions = {m: {} for m in task.names}, []
    while True:
        decision = selector.decide(task, make_curves(seen), budget)
        decisions.append(decision)
        if not decision.trials:
            return selector.rank(task, make_curves(seen)), decisions
        for trial in decision.trials:
            assert trial.n_samples not in seen[trial.model]
            budget.charge(task.costs[trial.model, trial.n_samples])
            seen[trial.model][trial.n_samples] = truth(trial.model, trial.n_samples)


@pytest.fixture
def task(make_task):
    return make_task(NAMES, sizes=SIZES, full=12800)


def make(**settings):
    return Adaptive(BayesianLine(), **{"n_draws": 500, **settings})


def test_it_starts_small_spends_on_contenders_and_finds_the_best(task, make_curves):
    budget = Budget(flops=0.2 * task.full_cost)
    selection, decisions = play(make(start_points=2), task, make_curves, budget)
    first = [(t.model, t.n_samples) for t in decisions[0].trials]
    assert first == [(m, d) for d in (200, 400) for m in NAMES]
    assert selection.best.model == "a"
    assert selection.best.predicted_loss == pytest.approx(loss("a", 12800), rel=0.05)
    later = [t.model for decision in decisions[1:] for t in decision.trials]
    assert "h" not in later
    assert "h" in decisions[-1].stopped
    assert 0 < selection.best.p_best <= 1
    low, high = selection.best.lower80, selection.best.upper80
    assert low < selection.best.predicted_loss < high


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_never_spends_more_than_the_budget(task, make_curves, share, batch_size):
    budget = Budget(flops=share * task.full_cost)
    play(make(price=0.0, batch_size=batch_size), task, make_curves, budget)
    assert 0 < budget.spent <= budget.flops


def test_a_higher_price_stops_earlier_and_says_so(task, make_curves):
    spent = []
    for price in (0.0, 0.1, 100.0):
        budget = Budget(flops=0.5 * task.full_cost)
        _, decisions = play(make(price=price, start_points=1), task, make_curves, budget)
        spent.append(budget.spent)
        assert decisions[-1].reasons[0].startswith("no more trials: ")
    assert spent[0] >= spent[1] > spent[2]
    assert "below the price of 100" in decisions[-1].reasons[0]
    assert len(decisions) == 2


def test_reasons_name_the_trials_and_the_numbers(task, make_curves):
    _, decisions = play(make(), task, make_curves, Budget(flops=0.1 * task.full_cost))
    assert decisions[0].reasons[0].startswith("start with D = 400 of a, b, c, d, e and 3 more")
    for decision in decisions[1:-1]:
        (reason,) = decision.reasons
        names = ", ".join(t.model for t in decision.trials)
        assert reason.startswith(f"next {names} at D = {decision.trials[0].n_samples}: ")
        assert "expected fall in regret" in reason
    for reason in decisions[-1].stopped.values():
        assert reason.startswith("P(best) 0.")


def test_batches_have_several_trials_with_distinct_pairs(task, make_curves):
    selector = make(batch_size=4, start_points=1, price=0.0)
    _, decisions = play(selector, task, make_curves, Budget(flops=0.5 * task.full_cost))
    sizes = [len(decision.trials) for decision in decisions[1:-1]]
    assert max(sizes) >= 4
    for decision in decisions:
        assert len(set(decision.trials)) == len(decision.trials)


def test_the_same_questions_come_in_the_same_order(task, make_curves):
    runs = [play(make(), task, make_curves, Budget(flops=0.2 * task.full_cost)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_diverged_trials_and_ragged_sizes(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=12800)
    ragged = {"a": SIZES, "b": (0, 200, 1600), "c": (400, 800)}
    task = type(task)(task.dataset, task.candidates, 12800, ragged, task.costs)

    def truth(model, d):
        return math.nan if model == "b" and d == 200 else loss(model, d)

    budget = Budget(flops=0.5 * task.full_cost)
    selection, decisions = play(make(start_points=1), task, make_curves, budget, truth)
    assert ("b", 1600) in [(t.model, t.n_samples) for t in decisions[1].trials]
    assert decisions[1].reasons == ("next b at D = 1600: too few usable trials for a prediction",)
    assert {entry.status for entry in selection.ranking} == {"ranked"}


def test_a_candidate_that_always_diverges_comes_last(make_task, make_curves):
    task = make_task("abc", sizes=SIZES, full=12800)
    selection, _ = play(
        make(),
        task,
        make_curves,
        Budget(flops=1e9),
        lambda m, d: math.nan if m == "a" else loss(m, d),
    )
    assert selection.ranking[-1].model == "a"
    assert selection.ranking[-1].status == "no usable trial"


@pytest.mark.parametrize(
    ("share", "sizes"), [(0.02, [200]), (0.06, [400]), (0.2, [200, 400, 800]), (0.4, SIZES[1:5])]
)
def test_it_starts_with_three_points_or_more_or_one_as_large_as_possible(
    task, make_curves, share, sizes
):
    budget = Budget(flops=share * task.full_cost)
    start = make(start_share=0.6, start_points=4).decide(task, make_curves({}), budget)
    assert sorted({t.n_samples for t in start.trials}) == list(sizes)
    assert len(start.trials) == len(sizes) * len(NAMES)


def test_tiny_budgets_rank_by_what_they_bought(task, make_curves):
    cost = sum(task.costs[m, 200] for m in NAMES)
    selector = Adaptive(BayesianLine(n_needed=3), n_draws=500)
    selection, decisions = play(selector, task, make_curves, Budget(flops=1.5 * cost))
    assert [len(decision.trials) for decision in decisions] == [8, 0]
    assert selection.best.model == min(NAMES, key=lambda m: loss(m, 200))
    assert "loss at D = 200" in selection.reason
    nowhere = dict.fromkeys(NAMES, SIZES[1:])
    task = type(task)(task.dataset, task.candidates, 12800, nowhere, task.costs)
    with pytest.raises(BudgetTooSmallError, match=r"at least 7\.2e\+03 FLOPs .* got 6\.48e"):
        selector.decide(task, make_curves({}), Budget(flops=0.9 * cost))


def test_a_budget_below_the_smallest_size_of_every_candidate_is_refused(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=12800)
    costs = {**task.costs, ("a", 0): 10.0, ("b", 0): 20.0}
    task = type(task)(task.dataset, task.candidates, 12800, task.available, costs)
    with pytest.raises(BudgetTooSmallError, match=r"at least 600 FLOPs \(1.56% .* got 50 "):
        make().decide(task, make_curves({}), Budget(flops=50.0))


def test_the_largest_size_of_the_papers_protocol_is_kept(task, make_curves):
    _, decisions = play(make(price=0.0), task, make_curves, Budget(max_n_samples=800))
    assert max(t.n_samples for d in decisions for t in d.trials) == 800
    with pytest.raises(BudgetTooSmallError, match="n_samples <= 100"):
        make().decide(task, make_curves({}), Budget(max_n_samples=100))


@pytest.mark.parametrize("n_models", [1, 2])
def test_very_few_candidates(make_task, make_curves, n_models):
    task = make_task(NAMES[:n_models], sizes=SIZES, full=12800)
    selection, decisions = play(make(), task, make_curves, Budget(flops=1e9))
    assert selection.best.model == "a"
    assert decisions[-1].reasons[0].startswith("no more trials")


def test_bad_settings_are_refused():
    for settings, message in (
        ({"price": -1.0}, "`price` >= 0 nats a full tuning, got -1"),
        ({"given_up": 1.0}, r"`given_up` in \[0, 1\), got 1"),
        ({"start_share": 0.0}, r"`start_share` in \(0, 1\], got 0"),
        ({"batch_size": 0}, "`batch_size` >= 1, got 0"),
        ({"start_points": 0}, "`start_points` >= 1, got 0"),
        ({"n_draws": 10}, "`n_draws` >= 100, got 10"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**settings)
