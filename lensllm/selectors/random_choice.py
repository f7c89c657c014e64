"""Random choice: the baseline that every selector has to beat."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector


@dataclass(frozen=True)
class RandomChoice(Selector):
    """Rank the candidates at random: one seeded permutation per data set, at no cost.

    Every candidate has the same probability of being best.

    Attributes:
        seed: Seed of the permutation.
    """

    seed: int = 0

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """No trials."""
        return Decision()

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank in random order."""
        rng = np.random.default_rng([self.seed, task.seed, zlib.crc32(task.dataset.encode())])
        n = len(task.names)
        entries = [
            RankedModel(model, float(place), p_best=1.0 / n)
            for model, place in zip(task.names, rng.permutation(n), strict=True)
        ]
        return Selection.of(self.name, task, entries, Event(RANKED_BY, reason="random"))
