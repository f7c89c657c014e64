import pytest
import torch
from torch import tensor

from lensllm.evaluation import metrics

TASKS = [
    (tensor([0.3, 0.1, 0.2]), tensor([1.0, 2.0, 4.0])),
    (tensor([0.1, 0.2]), tensor([1.0, 2.0])),
    (tensor([0.9, 0.5, 0.1, 0.2]), tensor([2.0, 1.0, 5.0, 3.0])),
]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("RelativeAccuracy", metrics.relative_accuracy),
        ("Regret", metrics.regret),
        ("TopKHit", metrics.top_k_hit),
    ],
)
def test_mean_over_tasks(name, function):
    metric = getattr(metrics, name)()
    for task in TASKS:
        metric.update(*task)
    expected = torch.stack([function(*task) for task in TASKS]).mean()
    assert metric.compute().item() == pytest.approx(expected.item())
    metric.reset()
    metric.update(*TASKS[1])
    assert metric.compute().item() == function(*TASKS[1]).item()


def test_undefined_tasks_are_left_out():
    metric = metrics.RelativeAccuracy()
    metric.update(*TASKS[1])
    with pytest.warns(UserWarning, match="same true loss"):
        metric.update(tensor([1.0]), tensor([1.0]))
    assert metric.compute() == 1.0


def test_pooled_log_rmse_and_coverage():
    first, second = (tensor([1.0, 2.0]), tensor([1.5, 2.0])), (tensor([3.0]), tensor([2.0]))
    metric = metrics.LogRMSE()
    metric.update(*first)
    metric.update(*second)
    joined = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    assert metric.compute().item() == pytest.approx(metrics.log_rmse(*joined).item())
    coverage = metrics.IntervalCoverage()
    coverage.update(tensor([1.0, 1.0]), tensor([2.0, 2.0]), tensor([1.5, 3.0]))
    coverage.update(tensor([1.0]), tensor([4.0]), tensor([2.0]))
    assert coverage.compute().item() == pytest.approx(2 / 3)
    assert coverage.sharpness().item() == pytest.approx(torch.log(tensor(16.0)).item() / 3)


def test_nothing_counted_is_nan():
    metric = metrics.Regret()
    with pytest.warns(UserWarning, match="nothing was counted"):
        assert torch.isnan(metric.compute())


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = metrics.Nonsense
