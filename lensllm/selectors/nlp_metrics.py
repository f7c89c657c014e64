"""Heavy-tail metrics of the weight spectra: a ranking without data or training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector

METRICS = ("pl_alpha", "e_tpl_lambda")
_NAMES = {"pl_alpha": "PL_alpha", "e_tpl_lambda": "E_TPL_lambda"}


@dataclass(frozen=True)
class NLPMetrics(Selector):
    """Smallest mean tail exponent of the weight matrices (LensLLM's baseline; Yang et al., 2023).

    A well trained model has heavy-tailed spectra: a small α of the power law, a small λ of the
    exponentially truncated one. No trial is asked for, and no data are used.

    Attributes:
        metric: `pl_alpha` or `e_tpl_lambda`.
        metrics: Both metrics of each candidate: a mapping by name, or a function of the name, such
            as `lensllm.curvature.provider.SpectrumProvider`.
    """

    metric: str = "pl_alpha"
    metrics: Mapping[str, Mapping[str, float]] | Callable[[str], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"Expected `metric` to be {' or '.join(METRICS)}, got {self.metric!r}")

    @property
    def name(self) -> str:
        """`nlp_metrics`, or `nlp_metrics_e_tpl_lambda` for that metric."""
        return "nlp_metrics" if self.metric == "pl_alpha" else f"nlp_metrics_{self.metric}"

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """No trials."""
        return Decision()

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the metric, smallest first."""
        entries = [RankedModel(model, self._value(model)) for model in task.names]
        by = Event(RANKED_BY, reason="spectra", message=_NAMES[self.metric])
        return Selection.of(self.name, task, entries, by)

    def _value(self, model: str) -> float:
        if self.metrics is None:
            raise ValueError(
                "Expected `metrics`, the heavy-tail metrics of each candidate, got none: give a "
                "SpectrumProvider with the models, or a mapping"
            )
        if isinstance(self.metrics, Mapping):
            if model not in self.metrics:
                raise ValueError(f"Expected heavy-tail metrics of {model!r}, got none in `metrics`")
            values = self.metrics[model]
        else:
            values = self.metrics(model)
        value = float(values[self.metric])
        if not math.isfinite(value):
            raise ValueError(f"Expected a finite {self.metric} of {model!r}, got {value}")
        return value
