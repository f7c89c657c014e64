import numpy as np
import pytest
import torch
from torch import tensor
from torchmetrics.functional import mean_squared_error

from lensllm.evaluation.metrics import (
    interval_coverage,
    interval_width,
    log_rmse,
    regret,
    relative_accuracy,
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
    losses = tensor([1.0, 2.0, 3.0, 5.0])
    assert relative_accuracy(tensor(scores), losses).item() == pytest.approx(accuracy)
    assert regret(tensor(scores), losses).item() == pytest.approx(lost)
    assert top_k_hit(tensor(scores), losses, k=2).item() == hit


def test_ties_of_the_truth_with_the_kth_count_as_hits():
    losses = tensor([1.0, 1.0, 2.0])
    assert top_k_hit(tensor([3.0, 1.0, 2.0]), losses, k=1) == 1


def test_a_candidate_without_truth_is_neither_best_nor_worst():
    losses = tensor([1.0, 3.0, NAN])
    assert relative_accuracy(tensor([2.0, 1.0, 3.0]), losses) == 0
    with pytest.warns(UserWarning, match="no candidate has both a score and a true loss"):
        assert torch.isnan(regret(tensor([2.0, 1.0, 0.5]), losses))


def test_undefined_is_nan_with_a_warning():
    same = tensor([2.0, 2.0])
    with pytest.warns(UserWarning, match="relative accuracy is undefined: all .* same true loss"):
        assert torch.isnan(relative_accuracy(tensor([1.0, 2.0]), same))
    assert regret(tensor([1.0, 2.0]), same) == 0
    with pytest.warns(UserWarning, match="top-k hit is undefined"):
        assert torch.isnan(top_k_hit(tensor([NAN]), tensor([1.0])))
    with pytest.warns(UserWarning, match="log RMSE is undefined"):
        assert torch.isnan(log_rmse(tensor([NAN]), tensor([1.0])))
    with pytest.warns(UserWarning, match="interval coverage is undefined"):
        assert torch.isnan(interval_coverage(tensor([NAN]), tensor([1.0]), tensor([1.0])))


def test_log_rmse_against_torchmetrics():
    rng = np.random.default_rng(0)
    predicted, losses = np.exp(rng.normal(size=20)), np.exp(rng.normal(size=20))
    logs = tensor(np.log(predicted)), tensor(np.log(losses))
    expected = mean_squared_error(*logs, squared=False).item()
    assert log_rmse(tensor(predicted), tensor(losses)).item() == pytest.approx(expected)
    predicted[3] = np.nan
    rest = np.arange(20) != 3
    expected = mean_squared_error(logs[0][rest], logs[1][rest], squared=False).item()
    assert log_rmse(tensor(predicted), tensor(losses)).item() == pytest.approx(expected)


def test_coverage_of_normal_intervals_is_their_level():
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=20_000))
    low, high = np.full(20_000, np.exp(-1.2816)), np.full(20_000, np.exp(1.2816))
    args = tensor(low), tensor(high), tensor(losses)
    assert interval_coverage(*args).item() == pytest.approx(0.8, abs=0.01)
    assert interval_width(*args).item() == pytest.approx(2 * 1.2816)


def test_shapes_and_k_are_checked():
    with pytest.raises(ValueError, match=r"got shapes \(2,\) and \(3,\)"):
        regret(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="`k` >= 1, got 0"):
        top_k_hit(torch.ones(2), torch.ones(2), k=0)
