import pytest

from lensllm.core.task import Budget
from lensllm.selectors.nlp_metrics import NLPMetrics

METRICS = {
    "a": {"pl_alpha": 4.0, "e_tpl_lambda": 0.1},
    "b": {"pl_alpha": 2.5, "e_tpl_lambda": 0.3},
    "c": {"pl_alpha": 3.0, "e_tpl_lambda": 0.2},
}


@pytest.mark.parametrize(
    ("metric", "expected"), [("pl_alpha", ["b", "c", "a"]), ("e_tpl_lambda", ["a", "c", "b"])]
)
def test_smaller_is_better_and_nothing_is_asked(make_task, make_curves, metric, expected):
    for source in (METRICS, METRICS.__getitem__):
        selector = NLPMetrics(metric, source)
        assert selector.ask(make_task(), make_curves({}), Budget()).trials == ()
        selection = selector.rank(make_task(), make_curves({}))
        assert [entry.model for entry in selection.ranking] == expected
        assert selection.selector == {"pl_alpha": "nlp_metrics"}.get(
            metric, f"nlp_metrics_{metric}"
        )


def test_unusable_input_is_refused(make_task, make_curves):
    with pytest.raises(ValueError, match="got 'alpha'"):
        NLPMetrics("alpha")
    with pytest.raises(ValueError, match="Expected `metrics`"):
        NLPMetrics().rank(make_task(), make_curves({}))
    with pytest.raises(ValueError, match="metrics of 'c'"):
        NLPMetrics(metrics={k: METRICS[k] for k in "ab"}).rank(make_task(), make_curves({}))
    bad = {**METRICS, "b": {"pl_alpha": float("nan")}}
    with pytest.raises(ValueError, match="pl_alpha of 'b', got nan"):
        NLPMetrics(metrics=bad).rank(make_task(), make_curves({}))
