"""Joint beliefs about the curves of a task's candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lensllm.core.points import losses_by_size
from lensllm.predictors.earlier import earlier_effects, hints_of
from lensllm.predictors.posterior import Points, Posterior, posterior
from lensllm.predictors.prior import CurvePrior, load_prior
from lensllm.predictors.table import LossTable, has_arms

if TYPE_CHECKING:
    from lensllm.core.task import Task

# Share of the variance between candidates that the arms of one model have in common.
ARM_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class CurvePredictor:
    """Curves of all candidates of a task, given the points so far (docs/concepts/adaptive.md).

    Earlier tasks (`Task.prior_curves`) count as far as this task's own points agree with them. The
    arms of a model (see `Candidate`) share `ARM_SHARE` of what is its own; architectures then share
    nothing, so that a model with one arm is predicted as it is without a known family.

    Attributes:
        prior: The prior over curves: a learned one, the path of one, or `None` for the package's.
    """

    prior: CurvePrior | str | None = None

    def posterior(
        self,
        task: Task,
        curves: pd.DataFrame,
        sizes: Sequence[int] = (),
        last: int | None = None,
    ) -> Posterior:
        """The posterior of all candidates' curves, in the order of the task.

        Args:
            task: The task, with the candidates' families.
            curves: Tidy table of the points seen; D = 0 is not used.
            sizes: Further sizes D > 0 to predict, ascending.
            last: The largest size to predict; by default D_full of the task.
        """
        last = task.n_samples_full if last is None else last
        prior = self.prior if isinstance(self.prior, CurvePrior) else load_prior(self.prior)
        if has_arms(task.candidates):
            prior = prior.sharing(ARM_SHARE)
        table = LossTable.from_curves(task.candidates, curves, task.measure)
        positive = [n for n in task.sizes if n > 0]
        smallest = float(min(positive, default=task.n_samples_full))
        wanted = [*(n for n in sizes if n != last), last]
        grid = np.unique([*positive, *wanted, *table.sizes, task.n_samples_full]).astype(float)
        earlier = task.prior_curves
        settled = np.full(len(task.names), math.nan)
        if last == task.n_samples_full:
            settled = _measured_at(last, task, curves)
        if earlier is None:
            found = posterior(prior, Points.of(table, wanted, smallest), wanted)
            return replace(found, settled=settled)
        effects = earlier.once(
            (self, task.dataset, task.candidates, tuple(grid), task.measure),
            lambda: earlier_effects(
                prior, task.candidates, earlier.but(task.dataset), grid, task.measure
            ),
        )
        found = posterior(prior, Points.of(table, grid, smallest), wanted, hints_of(effects))
        return replace(found, settled=settled)


def _measured_at(n_samples: int, task: Task, curves: pd.DataFrame) -> np.ndarray:
    """Log losses of the candidates that were measured at a size; `nan` for the others."""
    seen = losses_by_size(curves, task.measure)
    losses = [seen.get(model, {}).get(n_samples, math.nan) for model in task.names]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.array(losses, dtype=float))
    return np.where(np.isfinite(logs), logs, math.nan)
