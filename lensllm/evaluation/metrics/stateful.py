"""The same metrics with a state: updated task by task, computed over all tasks so far."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lensllm.evaluation.metrics.functional import (
    interval_counts,
    log_squares,
    regret,
    relative_accuracy,
    top_k_hit,
)


class _TaskMean(Metric):
    """Mean of a metric over tasks; tasks where it is undefined are left out, with a warning."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("total", default=zero, dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def value(self, scores: Tensor, losses: Tensor) -> Tensor:
        """The metric on one task."""
        raise NotImplementedError

    def update(self, scores: Tensor, losses: Tensor) -> None:
        """Add one task: scores and true losses of its candidates, each (n_candidates,)."""
        value = self.value(scores, losses)
        if torch.isfinite(value):
            self.total += value
            self.count += 1

    def compute(self) -> Tensor:
        """Mean over the tasks; `nan` without any."""
        return _ratio(self.total, self.count, type(self).__name__)


class RelativeAccuracy(_TaskMean):
    """Mean over tasks of `relative_accuracy`.

    Example:
        >>> metric = RelativeAccuracy()
        >>> metric.update(torch.tensor([0.2, 0.1, 0.3]), torch.tensor([1.0, 2.0, 3.0]))
        >>> metric.update(torch.tensor([0.2, 0.4]), torch.tensor([1.0, 2.0]))
        >>> metric.compute().item()
        0.75
    """

    def value(self, scores: Tensor, losses: Tensor) -> Tensor:
        """`relative_accuracy` on one task."""
        return relative_accuracy(scores, losses)


class Regret(_TaskMean):
    """Mean over tasks of `regret`, in nats per target token."""

    def value(self, scores: Tensor, losses: Tensor) -> Tensor:
        """`regret` on one task."""
        return regret(scores, losses)


class TopKHit(_TaskMean):
    """Share of tasks where the selected candidate is truly among the k best.

    Args:
        k: See `top_k_hit`.
        **kwargs: See `torchmetrics.Metric`.
    """

    def __init__(self, k: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if k < 1:
            raise ValueError(f"Expected `k` >= 1, got {k}")
        self.k = k

    def value(self, scores: Tensor, losses: Tensor) -> Tensor:
        """`top_k_hit` on one task."""
        return top_k_hit(scores, losses, self.k)


class LogRMSE(Metric):
    """Root mean squared error of log loss over all pairs of all updates."""

    full_state_update = False
    squares: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("squares", default=zero, dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, losses: Tensor) -> None:
        """Add predicted and true losses, each (n,)."""
        squares, count = log_squares(predicted, losses)
        self.squares += squares
        self.count += count

    def compute(self) -> Tensor:
        """The root mean square; `nan` without any finite pair."""
        return _ratio(self.squares, self.count, "LogRMSE").sqrt()


class IntervalCoverage(Metric):
    """Share of true losses inside their interval, and how wide the intervals are.

    `compute` returns the coverage; `sharpness` the mean of log(upper / lower).
    """

    full_state_update = False
    inside: Tensor
    width: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("inside", "width"):
            zero = torch.tensor(0.0, dtype=torch.float64)
            self.add_state(name, default=zero, dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, lower: Tensor, upper: Tensor, losses: Tensor) -> None:
        """Add interval ends and true losses, each (n,)."""
        inside, width, count = interval_counts(lower, upper, losses)
        self.inside += inside
        self.width += width
        self.count += count

    def compute(self) -> Tensor:
        """The coverage; `nan` without any interval."""
        return _ratio(self.inside, self.count, "IntervalCoverage")

    def sharpness(self) -> Tensor:
        """Mean log width; `nan` without any interval."""
        return _ratio(self.width, self.count, "IntervalCoverage.sharpness")


def _ratio(total: Tensor, count: Tensor, metric: str) -> Tensor:
    """The ratio of the two; `nan` with a warning where nothing was counted."""
    if count == 0:
        warnings.warn(f"{metric} is undefined: nothing was counted", UserWarning, stacklevel=3)
        return torch.tensor(torch.nan, dtype=torch.float64)
    return total / count
