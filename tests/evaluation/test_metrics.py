import math

import numpy as np
import pytest
from torch import tensor
from torchmetrics.functional import mean_squared_error

from lensllm.evaluation.metrics import (
    correlations,
    interval_coverage,
    interval_width,
    log_rmse,
    regret,
    relative_accuracy,
    relative_regret,
    top_k_hit,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "accuracy", "lost", "hit"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1.0, 0.0, 1.0),
        ([4.0, 3.0, 2.0, 1.0], 0.0, 4.0, 0.0),
        ([2.0, 1.0, 3.0, 4.0], 0.75, 1.0, 1.0),
        ([5.0, 1.0, 1.0, 4.0], 0.75, 1.0, 1.0),  # the first one on ties
        ([NAN, 9.0, 10.0, NAN], 0.75, 1.0, 1.0),  # no score is never selected
    ],
)
def test_selection_metrics_by_hand(scores, accuracy, lost, hit):
    losses = [1.0, 2.0, 3.0, 5.0]
    assert relative_accuracy(scores, losses) == pytest.approx(accuracy)
    assert regret(scores, losses) == pytest.approx(lost)
    assert top_k_hit(scores, losses, k=2) == hit


def test_ties_of_the_truth_with_the_kth_count_as_hits():
    losses = [1.0, 1.0, 2.0]
    assert top_k_hit([3.0, 1.0, 2.0], losses, k=1) == 1


def test_a_candidate_without_truth_is_neither_best_nor_worst():
    losses = [1.0, 3.0, NAN]
    assert relative_accuracy([2.0, 1.0, 3.0], losses) == 0
    with pytest.warns(UserWarning, match="no candidate has both a score and a true loss"):
        assert math.isnan(regret([2.0, 1.0, 0.5], losses))


def test_undefined_is_nan_with_a_warning():
    same = [2.0, 2.0]
    with pytest.warns(UserWarning, match="relative accuracy is undefined: all .* same true loss"):
        assert math.isnan(relative_accuracy([1.0, 2.0], same))
    assert regret([1.0, 2.0], same) == 0
    with pytest.warns(UserWarning, match="top-k hit is undefined"):
        assert math.isnan(top_k_hit([NAN], [1.0]))
    with pytest.warns(UserWarning, match="log RMSE is undefined"):
        assert math.isnan(log_rmse([NAN], [1.0]))
    with pytest.warns(UserWarning, match="interval coverage is undefined"):
        assert math.isnan(interval_coverage([NAN], [1.0], [1.0]))


def test_log_rmse_against_torchmetrics():
    rng = np.random.default_rng(0)
    predicted, losses = np.exp(rng.normal(size=20)), np.exp(rng.normal(size=20))
    logs = tensor(np.log(predicted)), tensor(np.log(losses))
    expected = mean_squared_error(*logs, squared=False).item()
    assert log_rmse(predicted, losses) == pytest.approx(expected)
    predicted[3] = np.nan
    rest = np.arange(20) != 3
    expected = mean_squared_error(logs[0][rest], logs[1][rest], squared=False).item()
    assert log_rmse(predicted, losses) == pytest.approx(expected)


def test_coverage_of_normal_intervals_is_their_level():
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=20_000))
    low, high = np.full(20_000, np.exp(-1.2816)), np.full(20_000, np.exp(1.2816))
    args = low, high, losses
    assert interval_coverage(*args) == pytest.approx(0.8, abs=0.01)
    assert interval_width(*args) == pytest.approx(2 * 1.2816)


def test_shapes_and_k_are_checked():
    with pytest.raises(ValueError, match=r"got shapes \(2,\) and \(3,\)"):
        regret(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="`k` >= 1, got 0"):
        top_k_hit(np.ones(2), np.ones(2), k=0)


def test_relative_regret_is_of_the_way_from_best_to_median():
    losses = [1.0, 2.0, 3.0, 7.0]  # median 2.5
    assert relative_regret([0.0, 1.0, 1.0, 1.0], losses) == 0.0
    assert relative_regret([1.0, 0.0, 1.0, 1.0], losses) == pytest.approx(1 / 1.5)
    assert relative_regret([1.0, 1.0, 1.0, 0.0], losses) == 1.0
    assert relative_regret([1.0, 0.0, 1.0], [1.0, 1.0, 2.0]) == 0.0  # half of them are the best
    with pytest.warns(UserWarning, match="relative regret is undefined"):
        assert math.isnan(relative_regret([NAN], [1.0]))


def test_correlations_of_constant_or_single_values_are_nan():
    for scores, losses in (([1.0], [2.0]), ([1.0, 1.0], [2.0, 3.0]), ([1.0, np.nan], [2.0, 3.0])):
        assert all(math.isnan(x) for x in correlations(np.array(scores), np.array(losses)).values())
