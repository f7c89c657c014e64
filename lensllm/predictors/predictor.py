"""Joint beliefs about the curves of a task's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lensllm.predictors.earlier import earlier_effects, hints_of
from lensllm.predictors.posterior import Points, Posterior, posterior
from lensllm.predictors.prior import CurvePrior, load_prior
from lensllm.predictors.table import LossTable

if TYPE_CHECKING:
    from lensllm.core.task import Task


@dataclass(frozen=True, eq=False)
class CurvePredictor:
    """Curves of all candidates of a task, given the points so far (docs/concepts/adaptive.md).

    Earlier tasks (`Task.prior_curves`) count as far as this task's own points agree with them.

    Attributes:
        prior: The prior over curves: a learned one, the path of one, or `None` for the package's.
    """

    prior: CurvePrior | str | None = None

    def posterior(self, task: Task, curves: pd.DataFrame, sizes: Sequence[int] = ()) -> Posterior:
        """The posterior of all candidates' curves, in the order of the task.

        Args:
            task: The task, with the candidates' families.
            curves: Tidy table of the points seen; D = 0 is not used.
            sizes: Sizes D > 0 to predict besides D_full, ascending.
        """
        prior = self.prior if isinstance(self.prior, CurvePrior) else load_prior(self.prior)
        table = LossTable.from_curves(task.candidates, curves, task.measure)
        positive = [n for n in task.sizes if n > 0]
        smallest = float(min(positive, default=task.n_samples_full))
        grid = np.unique([*positive, *sizes, *table.sizes, task.n_samples_full]).astype(float)
        wanted = [*(n for n in sizes if n != task.n_samples_full), task.n_samples_full]
        earlier = task.prior_curves
        if earlier is None:
            return posterior(prior, Points.of(table, wanted, smallest), wanted)
        effects = earlier.once(
            (self, task.dataset, task.candidates, tuple(grid), task.measure),
            lambda: earlier_effects(
                prior, task.candidates, earlier.but(task.dataset), grid, task.measure
            ),
        )
        return posterior(prior, Points.of(table, grid, smallest), wanted, hints_of(effects))
