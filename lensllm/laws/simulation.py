"""Simulated curves whose parameters and continuations are known."""

from __future__ import annotations

import numpy as np

from lensllm.laws.base import Array
from lensllm.laws.rectified import RectifiedLaw


def simulate_curves(n_curves: int, sizes: Array, noise: float, seed: int) -> tuple[Array, Array]:
    """Noisy curves of the rectified law, with parameters as in the benchmarks.

    β is uniform on [0.1, 0.8], log T uniform between 500 and 500 000 samples, E uniform on
    [0, 1.5] and the loss at the smallest size uniform on [2, 4]: not the posterior's prior.

    Args:
        n_curves: How many.
        sizes: Sizes D > 0, shape (n_sizes,).
        noise: Standard deviation of the noise on log loss.
        seed: Seed.

    Returns:
        Parameters (n_curves, 4) and noisy losses (n_curves, n_sizes).
    """
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0.1, 0.8, n_curves)
    transition = np.exp(rng.uniform(np.log(5e2), np.log(5e5), n_curves))
    floor = rng.uniform(0.0, 1.5, n_curves)
    first = rng.uniform(2.0, 4.0, n_curves)
    pre_learned = transition**beta
    scale = (first - floor) * (pre_learned + sizes.min() ** beta)
    params = np.stack([scale, beta, pre_learned, floor], axis=-1)
    losses = RectifiedLaw()(sizes, params)
    return params, losses * np.exp(noise * rng.standard_normal(losses.shape))
