"""Joint beliefs about the curves of a task's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lensllm.core.curves import read_curves
from lensllm.predictors.earlier import earlier_effects, hints_of
from lensllm.predictors.posterior import Points, Posterior, posterior
from lensllm.predictors.prior import CurvePrior, load_prior
from lensllm.predictors.table import LossTable, Named

if TYPE_CHECKING:
    from lensllm.core.task import Task


@dataclass(frozen=True, eq=False)
class CurvePredictor:
    """Curves of all candidates of a task, given the points so far (docs/adaptive.md).

    Attributes:
        prior_curves: Curves of earlier tasks: a tidy table, or the path of one, of wide CSVs or of
            a trial store. What they say counts as far as this task's own points agree.
        prior: What is assumed of curves: a learned prior, the path of one, or the package's.
    """

    prior_curves: pd.DataFrame | str | None = None
    prior: CurvePrior | str | None = None

    def posterior(self, task: Task, curves: pd.DataFrame, sizes: Sequence[int] = ()) -> Posterior:
        """What is believed of all candidates, in the order of the task.

        Args:
            task: The question, with the candidates' families.
            curves: Tidy table of the points seen; D = 0 is not used.
            sizes: Sizes D > 0 to predict besides D_full, ascending.
        """
        prior = self.prior if isinstance(self.prior, CurvePrior) else load_prior(self.prior)
        table = LossTable.from_curves(task.candidates, curves, task.measure)
        positive = [n for n in task.sizes if n > 0]
        smallest = float(min(positive, default=task.n_samples_full))
        grid = np.unique([*positive, *sizes, *table.sizes, task.n_samples_full]).astype(float)
        wanted = [*(n for n in sizes if n != task.n_samples_full), task.n_samples_full]
        if self.prior_curves is None:
            return posterior(prior, Points.of(table, wanted, smallest), wanted)
        key = (task.candidates, tuple(grid))
        if key not in self._effects:
            rows = self._earlier[self._earlier["dataset"] != task.dataset]
            self._effects[key] = earlier_effects(prior, task.candidates, rows, grid, task.measure)
        effects = self._effects[key]
        return posterior(prior, Points.of(table, grid, smallest), wanted, hints_of(effects))

    @cached_property
    def _earlier(self) -> pd.DataFrame:
        """The curves of earlier tasks."""
        given = self.prior_curves
        return given if isinstance(given, pd.DataFrame) else read_curves(str(given))

    @cached_property
    def _effects(self) -> dict[tuple[tuple[Named, ...], tuple[float, ...]], np.ndarray]:
        """What earlier tasks say, by candidates and sizes; computed once."""
        return {}
