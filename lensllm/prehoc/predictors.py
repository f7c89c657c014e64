"""Cross-validated predictors of the final loss, by the information that they may use."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lensllm.prehoc.runs import ProbedRuns

Information = Literal["mean", "static", "trace", "static_trace"]
PENALTIES = (0.03, 0.3, 3.0, 30.0, np.inf)  # in units of one standardised run
SLOPE_RATIO = 0.5


def cross_validated_predictions(
    runs: ProbedRuns, information: Information, groups: np.ndarray
) -> np.ndarray:
    """Predict every run's outcome from the runs of the other groups.

    The predictor is a ridge regression on standardised features of Y − a, where the anchor a is
    either nothing or, where a trace is known, the latest loss: with an infinite penalty it is the
    mean of the others, or the latest loss plus their mean further fall. Anchor and penalty are
    chosen by leaving out one more group of the training runs (nested cross-validation).

    Args:
        runs: Runs of one task or several.
        information: `mean` (nothing), `static`, `trace` (losses up to c) or `static_trace`.
        groups: What is left out as a whole, shape (n_runs,): the model, or the task.

    Returns:
        Predictions in nats, shape (n_runs, n_costs); `mean` and `static` are the same at all costs.

    Raises:
        ValueError: There are fewer than three groups.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"Expected at least 3 groups to leave one out, got {', '.join(names)}")
    n_costs = len(runs.costs)
    if information in ("mean", "static"):
        features = runs.static if information == "static" else runs.static[:, :0]
        constant = _predict(features, [np.zeros(len(runs))], runs.outcomes, index)
        return np.repeat(constant[:, None], n_costs, axis=1)
    columns = []
    for k in range(n_costs):
        features = trace_features(runs, k)
        if information == "static_trace":
            features = np.hstack([features, runs.static])
        anchors = [np.zeros(len(runs)), runs.probes[:, k]]
        columns.append(_predict(features, anchors, runs.outcomes, index))
    return np.stack(columns, axis=1)


def trace_features(runs: ProbedRuns, k: int) -> np.ndarray:
    """The latest loss at cost c_k, and its fall since about c_k / 2, shape (n_runs, 1 or 2)."""
    earlier = np.flatnonzero(runs.costs <= SLOPE_RATIO * runs.costs[k])
    latest = runs.probes[:, k]
    if not len(earlier):
        return latest[:, None]
    return np.stack([latest, latest - runs.probes[:, earlier[-1]]], axis=1)


def _predict(
    features: np.ndarray, anchors: list[np.ndarray], outcomes: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Held-out predictions, the settings of each fold chosen inside it."""
    predictions = np.empty(len(outcomes))
    for group in np.unique(index):
        test, train = index == group, index != group
        errors = sum(
            _grid_errors(features, anchors, outcomes, train & (index != inner), index == inner)
            for inner in np.unique(index[train])
        )
        best = np.unravel_index(np.argmin(errors), np.shape(errors))
        predictions[test] = _grid(features, anchors, outcomes, train, test)[best]
    return predictions


def _grid_errors(
    features: np.ndarray,
    anchors: list[np.ndarray],
    outcomes: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Summed squared errors for every anchor and penalty, shape (n_anchors, n_penalties)."""
    return ((_grid(features, anchors, outcomes, train, test) - outcomes[test]) ** 2).sum(-1)


def _grid(
    features: np.ndarray,
    anchors: list[np.ndarray],
    outcomes: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Ridge predictions for every anchor and penalty, shape (n_anchors, n_penalties, n_test)."""
    x, new = features[train], features[test]
    center, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    x, new = (x - center) / spread, (new - center) / spread
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    shrink = s / (s**2 + np.array(PENALTIES)[:, None])  # (n_penalties, rank); 0 at infinity
    targets = np.stack([outcomes - anchor for anchor in anchors])  # (n_anchors, n_runs)
    means = targets[:, train].mean(1)
    projected = (targets[:, train] - means[:, None]) @ u  # (n_anchors, rank)
    weights = (projected[:, None] * shrink) @ vt  # (n_anchors, n_penalties, n_features)
    added = np.stack([means[a] + anchors[a][test] for a in range(len(anchors))])
    return weights @ new.T + added[:, None]
