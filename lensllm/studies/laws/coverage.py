"""Coverage of a law's prediction intervals, on simulated curves with known continuations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from lensllm.laws.base import Array
from lensllm.laws.fitting import fit_laws
from lensllm.laws.posterior import LawPosterior
from lensllm.laws.rectified import RectifiedLaw
from lensllm.laws.result import LawFit
from lensllm.laws.simulation import simulate_curves
from lensllm.studies.laws.bootstrap import bootstrap, laplace

METHODS: Mapping[str, Callable[[LawFit], LawPosterior]] = {
    "posterior": lambda fit: fit.posterior,
    "laplace": laplace,
    "bootstrap": bootstrap,
}


def coverage_study(
    *,
    n_points: tuple[int, ...] = (5, 7, 9, 12),
    noise: tuple[float, ...] = (0.003, 0.01, 0.03),
    horizon: float = 8.0,
    levels: tuple[float, ...] = (0.5, 0.8, 0.95),
    n_curves: int = 400,
    methods: tuple[str, ...] = tuple(METHODS),
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how often intervals of a later loss contain it.

    Args:
        n_points: Numbers of sizes (200, 400, ...) fitted.
        noise: Standard deviations of the noise on log loss.
        horizon: Predicted size over the largest fitted one.
        levels: Levels of the intervals.
        n_curves: Curves for each combination.
        methods: Keys of `METHODS`.
        seed: Seed.

    Returns:
        One row per method, number of points and noise: `coverage_<level>`, `width` (mean of log
        upper over lower end at the middle level), `rmse_log` of the median, and `milliseconds` per
        curve beyond the fit.
    """
    rows = []
    for n in n_points:
        for scale in noise:
            sizes = 200.0 * 2.0 ** np.arange(n)
            later = sizes[-1] * horizon
            _, losses = simulate_curves(n_curves, np.append(sizes, later), scale, seed)
            fits = fit_laws(RectifiedLaw(), sizes, losses[:, :-1])
            for method in methods:
                if method != "posterior" and n <= RectifiedLaw().n_params:
                    continue
                row = {"method": method, "n_points": n, "noise": scale}
                rows.append(
                    row | _coverage(METHODS[method], list(fits), later, losses[:, -1], levels)
                )
    return pd.DataFrame(rows)


def _coverage(
    draw: Callable[[LawFit], LawPosterior],
    fits: list[LawFit],
    later: float,
    truth: Array,
    levels: tuple[float, ...],
) -> dict[str, float]:
    """Coverage of one method."""
    start = time.perf_counter()
    quantiles = []
    probabilities = [0.5, *(0.5 + sign * level / 2 for level in levels for sign in (-1, 1))]
    for fit in fits:
        quantiles.append(draw(fit).quantiles(later, probabilities)[:, 0])
    seconds = time.perf_counter() - start
    table = np.array(quantiles)
    result = {}
    for i, level in enumerate(levels):
        low, high = table[:, 1 + 2 * i], table[:, 2 + 2 * i]
        result[f"coverage_{level:g}"] = float(((low <= truth) & (truth <= high)).mean())
        if i == len(levels) // 2:
            result["width"] = float(np.log(high / low).mean())
    result["rmse_log"] = float(np.sqrt(np.mean(np.log(table[:, 0] / truth) ** 2)))
    return result | {"milliseconds": 1e3 * seconds / len(fits)}
