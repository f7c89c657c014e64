"""The winner of other data sets: a ranking without any trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector


@dataclass(frozen=True)
class OtherWinner(Selector):
    """Rank by the mean relative accuracy on other data sets, at no cost on this one.

    On each earlier data set (`Task.prior_curves`), at its largest size, a candidate's relative
    accuracy is (L_worst − L) / (L_worst − L_best) over the candidates of this task. Every other
    selector should be compared with this baseline.
    """

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """No trials."""
        return Decision()

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by mean relative accuracy on the other data sets, largest first.

        If the earlier curves contain no other data set, no candidate is ranked.

        Raises:
            ValueError: There are no earlier curves.
        """
        shares = self._relative_accuracies(task)
        entries = []
        for model in task.names:
            if model in shares:
                entries.append(RankedModel(model, -shares[model]))
            else:
                entries.append(RankedModel(model, math.nan, status="not in the other data sets"))
        by = Event(RANKED_BY, reason="other_datasets")
        return Selection.of(self.name, task, entries, by)

    def _relative_accuracies(self, task: Task) -> dict[str, float]:
        """Mean relative accuracy by candidate, over the other data sets that contain it."""
        if task.prior_curves is None:
            raise ValueError(
                "Expected `prior_curves` of other data sets for the selector other_winner, "
                "got none: give a file or folder of curves, or a trial store"
            )
        table = task.prior_curves.but(task.dataset)
        table = table[table["model"].isin(task.names)]
        collected: dict[str, list[float]] = {}
        for _, rows in table.groupby("dataset"):
            largest = rows[rows["n_samples"] == rows["n_samples"].max()]
            losses = task.measure.errors(largest).groupby(largest["model"]).mean()
            spread = losses.max() - losses.min()
            if spread > 0:
                for model, loss in losses.items():
                    collected.setdefault(model, []).append((losses.max() - loss) / spread)
        return {model: sum(values) / len(values) for model, values in collected.items()}
