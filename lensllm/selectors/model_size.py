"""Model size: the most parameters win."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector


@dataclass(frozen=True)
class ModelSize(Selector):
    """Choose the largest model (RSL, arXiv:2402.02314). It costs nothing and learns nothing.

    Candidates are scored by −log N, N the number of parameters, so that smaller is better; RSL's
    tables correlate log N itself, which `score_sign` tells the evaluation.
    """

    score_sign: ClassVar[float] = -1.0

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """Nothing."""
        return Decision()

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """By number of parameters, largest first."""
        entries = [
            RankedModel(candidate.name, -math.log(candidate.n_params))
            if candidate.n_params > 0
            else RankedModel(candidate.name, math.nan, status="number of parameters unknown")
            for candidate in task.candidates
        ]
        return Selection.of(self.name, task, entries, Event(RANKED_BY, reason="n_params"))
