"""Model size: the candidate with the most parameters is chosen."""

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
    """Choose the largest model (RSL, arXiv:2402.02314), without any trial.

    Candidates are scored by −log N, with N the number of parameters, so that smaller is better.
    RSL's tables correlate log N itself, so `score_sign` is −1 in an evaluation.
    """

    score_sign: ClassVar[float] = -1.0

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """No trials."""
        return Decision()

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by number of parameters, largest first."""
        entries = [
            RankedModel(candidate.name, -math.log(candidate.n_params))
            if candidate.n_params > 0
            else RankedModel(candidate.name, math.nan, status="number of parameters unknown")
            for candidate in task.candidates
        ]
        return Selection.of(self.name, task, entries, Event(RANKED_BY, reason="n_params"))
