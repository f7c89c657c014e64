"""zero_shot, model_size, sub_tuning, random_choice and the lines, on small hand-made tasks."""

import math

import numpy as np
import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.reports.words import reason_words
from lensllm.selectors import LastLine, ModelSize, RandomChoice, SubTuning, ZeroShot

NOTHING = {}


def names(selection):
    return [entry.model for entry in selection.ranking]


def test_zero_shot_asks_for_zero_and_ranks_by_it(make_task, make_curves):
    task = make_task()
    asked = ZeroShot().ask(task, make_curves(NOTHING), Budget()).trials
    assert [(t.model, t.n_samples) for t in asked] == [("a", 0), ("b", 0), ("c", 0)]
    curves = make_curves({"a": {0: 3.0}, "b": {0: 2.0}, "c": {0: math.nan}})
    selection = ZeroShot().rank(task, curves)
    assert names(selection) == ["b", "a", "c"]
    assert selection.ranking[2].status == "diverged at D = 0"
    assert math.isnan(selection.best.predicted_loss)
    assert not ZeroShot().ask(task, curves, Budget()).trials


def test_first_candidate_wins_ties(make_task, make_curves):
    task = make_task("zab")
    curves = make_curves({"a": {0: 2.0}, "b": {0: 2.0}, "z": {0: 2.0}})
    assert names(ZeroShot().rank(task, curves)) == ["z", "a", "b"]


def test_model_size_ranks_unknown_sizes_last(make_task, make_curves):
    task = make_task(n_params=[1e6, math.nan, 5e6])
    selection = ModelSize().rank(task, make_curves(NOTHING))
    assert names(selection) == ["c", "a", "b"]
    assert selection.ranking[2].status == "number of parameters unknown"
    assert "5e+06" in reason_words(selection)


def test_sub_tuning_takes_the_largest_affordable_size(make_task, make_curves):
    task = make_task()  # one size D of all three costs 6 D
    asked = SubTuning().ask(task, make_curves(NOTHING), Budget(flops=6 * 800.0)).trials
    assert {t.n_samples for t in asked} == {800}
    with pytest.raises(BudgetTooSmallError, match=r"at least 1.2e\+03 FLOPs .* got 100"):
        SubTuning().ask(task, make_curves(NOTHING), Budget(flops=100))


def test_sub_tuning_ranks_a_candidate_without_the_size_last(make_task, make_curves):
    curves = make_curves({"a": {800: 2.0}, "b": {400: 1.0}, "c": {800: 1.5}})
    selection = SubTuning().rank(make_task(), curves)
    assert names(selection) == ["c", "a", "b"]
    assert selection.ranking[2].status == "no trial at D = 800"


def test_random_choice_depends_on_seed_and_nothing_else(make_task, make_curves):
    task = make_task("abcdefgh")
    draws = [names(RandomChoice(seed).rank(task, make_curves(NOTHING))) for seed in range(5)]
    assert draws[0] == names(RandomChoice(0).rank(task, make_curves(NOTHING)))
    assert len({tuple(d) for d in draws}) > 1
    assert RandomChoice().rank(task, make_curves(NOTHING)).best.p_best == 1 / 8


@pytest.mark.parametrize("n_points", [2, 3, 5])
def test_last_line_recovers_power_laws(make_task, make_curves, n_points):
    sizes = (200, 400, 800, 1600, 3200)
    task = make_task("ab", sizes=(0, *sizes), full=12800)
    laws = {"a": lambda d: 9.0 * d**-0.1, "b": lambda d: 20.0 * d**-0.25}
    curves = make_curves({m: {d: law(d) for d in sizes} for m, law in laws.items()})
    selection = LastLine(n_points).rank(task, curves)
    assert selection.selector == f"last_{n_points}_line"
    assert names(selection) == ["b", "a"]
    assert selection.best.predicted_loss == pytest.approx(laws["b"](12800.0))


def test_last_line_asks_for_what_it_can_pay(make_task, make_curves):
    budget = Budget(flops=6 * (200 + 400 + 800))
    asked = LastLine(3).ask(make_task(), make_curves(NOTHING), budget).trials
    assert sorted({t.n_samples for t in asked}) == [200, 400, 800]
    asked = LastLine(3).ask(make_task(), make_curves(NOTHING), Budget(max_n_samples=400)).trials
    assert sorted({t.n_samples for t in asked}) == [200, 400]
    with pytest.raises(BudgetTooSmallError, match="pays for two trials of every candidate"):
        LastLine(3).ask(make_task(), make_curves(NOTHING), Budget(flops=100))
    with pytest.raises(BudgetTooSmallError, match=r"at least two sizes .* <= 200"):
        LastLine(3).ask(make_task(), make_curves(NOTHING), Budget(max_n_samples=200))


def test_last_line_names_a_candidate_with_one_point(make_task, make_curves):
    curves = make_curves({"a": {200: 3.0, 400: 2.5}, "b": {0: 4.0, 200: np.nan, 400: 2.0}})
    ranking = LastLine(3).rank(make_task("ab"), curves).ranking
    assert ranking[1].status == "1 usable trials at D > 0, a line needs 2"


@pytest.mark.parametrize("selector", [ZeroShot(), SubTuning(), LastLine(3)])
def test_without_any_trial_nobody_is_ranked(make_task, make_curves, selector):
    selection = selector.rank(make_task(), make_curves(NOTHING))
    assert all(entry.status != "ranked" for entry in selection.ranking)
    assert reason_words(selection).startswith("No candidate could be ranked")


def test_a_line_of_one_point_is_refused():
    with pytest.raises(ValueError, match="`n_points` >= 2 for a line, got 1"):
        LastLine(1)
