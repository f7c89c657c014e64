"""Learning the prior from recorded tasks: one component a task, by its own points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from lensllm.predictors.posterior import Points
from lensllm.predictors.prior import PARAMETERS, CurvePrior
from lensllm.predictors.table import LossTable

# Doublings from the last size that is shown to D_full, which is to be predicted.
DISTANCES = (1, 2, 3, 4, 5, 6)
_STEP = 1e-4
_BOUND = 4.0


def shown_points(table: LossTable, distances: Sequence[int] = DISTANCES) -> list[tuple[Points, Points]]:
    """What a campaign may have seen of a recorded task: its points so far, and D_full.

    Args:
        table: All points of a task; its largest size is D_full.
        distances: Doublings from the last size shown to D_full.

    Returns:
        For each distance the points shown, and the same with those at D_full.
    """
    full, cases = table.sizes[-1], []
    for k in distances:
        shown = table.sizes <= full / 2**k
        if not (table.seen & shown).any():
            continue
        both = shown | (table.sizes == full)
        early, late = table.at(shown), table.at(both)
        before = Points.of(early, [full], table.sizes[0])
        cases.append((before, replace(Points.of(late, [full], table.sizes[0]), least=before.least)))
    return cases


def learn_component(
    cases: Sequence[tuple[Points, Points]],
    centre: np.ndarray,
    spread: np.ndarray,
    emphasis: float = 0.0,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Most probable parameters of one task under a Gaussian prior of them.

    The mean over cases of log p(all points), plus `emphasis` times the sum over cases of
    log p(points at D_full | those shown).

    Args:
        cases: See `shown_points`.
        centre: Mean of the prior of the parameters, shape (n_parameters,).
        spread: Its standard deviation.
        emphasis: Weight of prediction.
        start: Where the search begins; at the mean by default.

    Returns:
        The parameters, and the log density that is maximised.
    """
    low, high = centre - _BOUND * spread, centre + _BOUND * spread
    shift = _STEP * np.concatenate([np.zeros((1, len(centre))), np.eye(len(centre)), -np.eye(len(centre))])

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        vectors = vector + shift
        prior = CurvePrior(("",) * len(vectors), vectors, np.ones(len(vectors)))
        value = -0.5 * (((vectors - centre) / spread) ** 2).sum(axis=1)
        for before, after in cases:
            both = after.log_evidence(prior)
            value += both / len(cases)
            if emphasis:
                value += emphasis * (both - before.log_evidence(prior))
        value = np.where(np.isfinite(value), value, -1e8)
        up, down = value[1:].reshape(2, -1)
        return -value[0], (down - up) / (2 * _STEP)

    found = minimize(
        loss,
        np.clip(centre if start is None else start, low, high),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 60},
    )
    return found.x, -float(found.fun)


def weak_prior() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the parameters before any task is known."""
    centre, spread = np.array(list(PARAMETERS.values())).T
    return centre, spread
