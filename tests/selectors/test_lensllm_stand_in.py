import numpy as np
import pandas as pd
import pytest

from lensllm.core.task import Budget
from lensllm.evaluation import Benchmark, evaluate
from lensllm.execution.replay import ReplayRunner
from lensllm.laws import ExponentialCurve, LensLLMLaw
from lensllm.selectors import run_campaign
from lensllm.selectors.lensllm import LensLLM
from lensllm.selectors.lensllm_stand_in import LensLLMStandIn

SIZES = (0, 200, 400, 800, 1600, 3200, 6400, 51_200)
ZERO = {"a": 5.0, "b": 4.0, "c": 6.0}
PARAMS = {"a": [6.0, 0.35, 30.0, 2.5], "b": [8.0, 0.3, 60.0, 2.3], "c": [60.0, 0.45, 10.0, 2.1]}


def bound(model):
    return ExponentialCurve([ZERO[model] ** 2], [1.0])


def curves(dataset="demo"):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "model": model,
                "dataset": dataset,
                "n_samples": n,
                "seed": 0,
                "test_loss": ZERO[model]
                if n == 0
                else float(LensLLMLaw(bound(model))([float(n)], PARAMS[model])[0])
                * np.exp(0.003 * rng.normal()),
            }
            for model in ZERO
            for n in SIZES
        ]
    )


def test_equals_lensllm_with_these_curves_and_no_kernel_to_pay():
    runner = ReplayRunner(curves(), "demo")
    given = LensLLM({model: bound(model) for model in ZERO})
    (mine, seen), (theirs, expected) = (
        run_campaign(selector, runner, Budget(max_n_samples=6400))
        for selector in (LensLLMStandIn(), given)
    )
    assert [r.predicted_loss for r in mine.ranking] == [r.predicted_loss for r in theirs.ranking]
    assert mine.cost_flops == theirs.cost_flops > 0
    pd.testing.assert_frame_equal(seen, expected)


def test_a_candidate_without_a_loss_at_zero_is_last_by_name():
    table = curves()
    table = table[(table["model"] != "b") | (table["n_samples"] > 0)]
    selection, _ = run_campaign(
        LensLLMStandIn(), ReplayRunner(table, "demo"), Budget(max_n_samples=3200)
    )
    assert {r.model: r.status for r in selection.ranking}["b"] == "no usable trial"
    assert selection.best.status == "ranked"


def test_data_sets_have_their_own_bounds():
    other = curves("other")
    other["test_loss"] *= 1.5
    benchmark = Benchmark("two", pd.concat([curves(), other]))
    together = evaluate(benchmark, [LensLLMStandIn()], [8]).predictions
    alone = evaluate(Benchmark("one", other), [LensLLMStandIn()], [8]).predictions
    part = together[together["dataset"] == "other"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, alone)


@pytest.mark.parametrize("settings", [{"mode": "phase"}, {"use_zero": False}, {"ntk": {}}])
def test_what_needs_weights_is_refused(settings):
    with pytest.raises(ValueError, match="without `ntk`, with mode=prediction and use_zero=true"):
        LensLLMStandIn(**settings)
    assert LensLLMStandIn(ntk_scale=None).name == "lensllm_stand_in_kappa"
