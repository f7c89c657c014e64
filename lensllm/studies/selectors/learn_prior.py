"""Learning the prior from recorded tasks: one component per task, from its own points."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from lensllm.core.task import Candidate
from lensllm.predictors.posterior import Points
from lensllm.predictors.prior import PARAMETERS, CurvePrior
from lensllm.predictors.table import LossTable

# Doublings from the last size that is shown to D_full, which is to be predicted.
DISTANCES = (1, 3, 5)
# A component stands for tasks like its own: this many copies of it are shifted at random, by this
# share of the spread of each parameter.
COPIES, SHIFT = 3, 0.3
_STEP = 1e-4
_BOUND = 4.0


@dataclass(frozen=True)
class RecordedTask:
    """A task of the corpus.

    Attributes:
        name: Its data set, by which it is left out where it is judged.
        group: Kind of task; all groups weigh the same together.
        table: Losses of its candidates; the largest size is D_full.
    """

    name: str
    group: str
    table: LossTable


def recorded_tasks(
    curves: pd.DataFrame, group: str, fulls: Sequence[int | None] = (None,)
) -> list[RecordedTask]:
    """Every data set and seed of a table of curves as a task.

    Args:
        curves: Tidy table of curves.
        group: Their group.
        fulls: Sizes D_full to cut each at, `None` for the largest.

    Returns:
        The tasks, with those candidates that have a loss at D_full.
    """
    tasks = []
    curves = curves[np.isfinite(curves["test_loss"]) & (curves["n_samples"] > 0)]
    for (name, _), rows in curves.groupby(["dataset", "seed"]):
        for full in fulls:
            size = rows["n_samples"].max() if full is None else full
            known = rows[rows["n_samples"] <= size]
            reached = set(known.loc[known["n_samples"] == size, "model"])
            known = known[known["model"].isin(reached)]
            families = (
                known.groupby("model")["family"].first().fillna("").to_dict()
                if "family" in known
                else {}
            )
            candidates = [Candidate(m, family=str(families.get(m, ""))) for m in sorted(reached)]
            table = LossTable.from_curves(candidates, known)
            if len(candidates) > 1 and len(table.sizes) > 2:
                tasks.append(RecordedTask(str(name), group, table))
    return tasks


def learn_prior(
    tasks: Sequence[RecordedTask], progress: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Learn one component from each task, and shift copies of it.

    No component depends on another task: a prior that has not seen a task is this one without the
    components of that task.

    Args:
        tasks: The corpus.
        progress: Called with the name of every task.

    Returns:
        Columns `task`, `weight` and the parameters, in the order of tasks.
    """
    centre, spread = weak_prior()
    sizes = pd.Series([task.group for task in tasks]).value_counts()
    rows = []
    for position, task in enumerate(tasks):
        if progress is not None:
            progress(f"{position + 1} of {len(tasks)}: {task.group} {task.name}")
        found, _ = learn_component(shown_points(task.table), centre, spread)
        rng = np.random.default_rng(zlib.crc32(f"{task.name} {found.round(3)}".encode()))
        copies = [found + SHIFT * spread * rng.standard_normal(len(found)) for _ in range(COPIES)]
        weight = 1.0 / (sizes[task.group] * (1 + COPIES) * len(sizes))
        for vector in (found, *copies):
            values = dict(zip(PARAMETERS, vector.round(3).tolist(), strict=True))
            rows.append({"task": task.name, "weight": round(weight, 6), **values})
    return pd.DataFrame(rows)


def shown_points(table: LossTable, distances: Sequence[int] = DISTANCES) -> list[Points]:
    """What a campaign may have seen of a recorded task, and what it is asked for.

    Args:
        table: All points of a task; its largest size is D_full.
        distances: Doublings from the last size shown to D_full.

    Returns:
        For each distance the points up to that size, with those at D_full. Floors are shares of
        the smallest loss shown, as they will be in a campaign.
    """
    full, cases = table.sizes[-1], []
    for k in distances:
        shown = table.sizes <= full / 2**k
        if (table.seen & shown).any():
            before = Points.of(table.at(shown), [full], table.sizes[0])
            points = Points.of(table.at(shown | (table.sizes == full)), [full], table.sizes[0])
            cases.append(replace(points, least=before.least))
    return cases


def learn_component(
    cases: Sequence[Points], centre: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, float]:
    """Most probable parameters of one task under a Gaussian prior of them.

    Args:
        cases: See `shown_points`; their mean log density counts as one task.
        centre: Mean of the prior of the parameters, shape (n_parameters,).
        spread: Its standard deviation.

    Returns:
        The parameters, and the log density that is maximised.
    """
    low, high = centre - _BOUND * spread, centre + _BOUND * spread
    steps = _STEP * np.eye(len(centre))
    shifts = np.concatenate([np.zeros((1, len(centre))), steps, -steps])

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        vectors = vector + shifts
        prior = CurvePrior(("",) * len(vectors), vectors, np.ones(len(vectors)))
        value = -0.5 * (((vectors - centre) / spread) ** 2).sum(axis=1)
        value += np.mean([points.log_evidence(prior) for points in cases], axis=0)
        value = np.where(np.isfinite(value), value, -1e8)
        up, down = value[1:].reshape(2, -1)
        return -value[0], (down - up) / (2 * _STEP)

    bounds = list(zip(low, high, strict=True))
    found = minimize(
        loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
    )
    return found.x, -float(found.fun)


def weak_prior() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the parameters before any task is known."""
    centre, spread = np.array(list(PARAMETERS.values())).T
    return centre, spread
