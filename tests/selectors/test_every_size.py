import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.reports.words import reason_words
from lensllm.selectors import AcceptThenStop, EverySize


def test_every_size_is_asked_for_once_small_ones_first(make_task, make_curves):
    task = make_task("ab", sizes=(0, 200, 400))
    curves = make_curves({"b": {0: 3.0}})
    asked = [(t.model, t.n_samples) for t in EverySize().ask(task, curves, Budget()).trials]
    assert asked == [("a", 0), ("a", 200), ("b", 200), ("a", 400), ("b", 400)]


def test_it_ranks_as_its_ranker_does_whatever_the_loss_before_tuning(make_task, make_curves):
    sizes = (0, 200, 400, 800)
    task = make_task("ab", sizes=sizes)
    rising = {d: 9.0 * d**-0.1 for d in sizes[1:]}
    falling = {d: 30.0 * d**-0.3 for d in sizes[1:]}
    curves = make_curves({"a": {0: 1.0, **rising}, "b": {0: 90.0, **falling}})
    ranked, expected = EverySize().rank(task, curves), AcceptThenStop().rank(task, curves)
    assert ranked.ranking == expected.ranking
    assert ranked.best.model == "b"
    assert ranked.selector == "every_size"
    words = "every size was measured; ranked by ats: b is ranked first, with a predicted loss"
    assert reason_words(ranked).startswith(words)


def test_a_budget_that_does_not_pay_for_all_is_refused(make_task, make_curves):
    task = make_task("ab", sizes=(0, 200, 400))  # 600 of a, 1200 of b
    with pytest.raises(BudgetTooSmallError, match=r"at least 1.8e\+03 FLOPs .* got 1.7e\+03"):
        EverySize().ask(task, make_curves({}), Budget(flops=1700.0))
    assert EverySize().ask(task, make_curves({}), Budget(flops=1800.0)).trials
