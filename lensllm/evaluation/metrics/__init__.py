"""Metrics of selections and forecasts: pure functions, and the same with a state.

The classes are torchmetrics' and are imported when first asked for, since that takes seconds.
"""

from typing import Any

from lensllm.evaluation.metrics.functional import (
    interval_coverage,
    interval_width,
    log_rmse,
    regret,
    relative_accuracy,
    relative_regret,
    top_k_hit,
)

_STATEFUL = ("IntervalCoverage", "LogRMSE", "Regret", "RelativeAccuracy", "TopKHit")

__all__ = [
    "IntervalCoverage",
    "LogRMSE",
    "Regret",
    "RelativeAccuracy",
    "TopKHit",
    "interval_coverage",
    "interval_width",
    "log_rmse",
    "regret",
    "relative_accuracy",
    "relative_regret",
    "top_k_hit",
]


def __getattr__(name: str) -> Any:
    """Import the classes late."""
    if name not in _STATEFUL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lensllm.evaluation.metrics import stateful

    return getattr(stateful, name)
