"""The prior over a task's learning curves, before any of them was measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

PRIOR_CSV = Path(__file__).with_name("prior.csv")

# Parameters of a prior, on the scale on which they are learned and stored, each with the mean and
# the standard deviation of the weak prior under which it is learned for one task.
PARAMETERS: dict[str, tuple[float, float]] = {
    "slope": (-0.09, 0.03),  # mean slope of log(L - E) per doubling
    "bend": (0.0, 0.02),  # mean change of that slope per doubling
    "log_common_slope": (-2.4, 0.2),  # spread over tasks of the slope that all candidates share
    "log_common_drift": (-3.6, 0.5),  # drift of that slope per square root of a doubling
    "log_level": (-0.9, 0.8),  # spread over candidates of the level at the smallest size
    "log_own_slope": (-2.8, 1.0),  # spread over candidates of the slope
    "atanh_correlation": (0.0, 0.7),  # correlation of level and slope
    "log_own_drift": (-3.5, 1.0),  # drift of the slope
    "decay": (
        0.15,
        0.15,
    ),  # rate per doubling at which a slope of its own fades, or grows where < 0
    "decay_change": (0.0, 0.02),  # change of that rate per doubling
    "logit_family": (-1.5, 1.5),  # share of the three that a family has in common
    "log_noise": (-4.6, 1.2),  # noise of a measurement, at large sizes
    "log_small_noise": (-3.9, 1.2),  # additional noise at D = 256, falling with 1 / D
    "logit_floor": (-2.0, 2.0),  # E as a share of the smallest loss that was measured
}
NOISE_SIZE = 256.0
MAX_FLOOR = 0.9
LEVEL_SPREAD = 3.0
# Step of sums in place of integrals over x, in doublings, and the largest |log| of a fading.
_STEP = 0.125
_STEEPEST = 10.0


@dataclass(frozen=True, eq=False)
class CurvePrior:
    """A mixture of priors over learning curves, one for every task that was learned from.

    With x the doublings from half the smallest size on, and y = log(L - E),

        y_i(x) = mean + c(x) + f_family(i)(x) + o_i(x) + noise,

    where c, f and o are Gaussian processes with a level, a slope, and a slope that drifts (an
    integrated Wiener process); f and o have the same covariance up to a factor.

    Attributes:
        names: The task of each component.
        vectors: Parameters in the order of `PARAMETERS`, shape (n_components, n_parameters).
        weights: Prior probability of each component, shape (n_components,).
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.shape != (len(self.names), len(PARAMETERS)):
            raise ValueError(
                f"Expected {len(PARAMETERS)} parameters for each of {len(self.names)} tasks, got "
                f"{self.vectors.shape}"
            )

    def __getitem__(self, kept: np.ndarray) -> CurvePrior:
        """Some of the components, by a mask or positions."""
        names = tuple(np.asarray(self.names, dtype=object)[kept])
        return CurvePrior(names, self.vectors[kept], self.weights[kept])

    def without(self, names: set[str]) -> CurvePrior:
        """The prior without the components of some tasks, to be judged on these tasks."""
        return self[np.array([name not in names for name in self.names])]

    def sharing(self, share: float) -> CurvePrior:
        """The same prior with another share of each curve that its family has in common."""
        vectors = self.vectors.copy()
        column = list(PARAMETERS).index("logit_family")
        vectors[:, column] = np.log(share / (1.0 - share))
        return CurvePrior(self.names, vectors, self.weights)

    def column(self, name: str) -> np.ndarray:
        """One parameter of all components, shape (n_components,)."""
        return self.vectors[:, list(PARAMETERS).index(name)]

    def _power(self, name: str) -> np.ndarray:
        return np.exp(self.column(name))[:, None, None]

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Prior mean of y, (n_components, n_sizes)."""
        return self.column("slope")[:, None] * x + self.column("bend")[:, None] * x**2 / 2

    def covariances(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariances of c, f and o on a grid, each (n_components, n_sizes, n_sizes)."""
        product = x[:, None] * x
        low = np.minimum(x[:, None], x)
        drift = low**3 / 3 + np.abs(x[:, None] - x) * low**2 / 2
        reach, faded = _fading(self.column("decay"), self.column("decay_change"), x)
        common = (
            LEVEL_SPREAD**2
            + self._power("log_common_slope") ** 2 * product
            + self._power("log_common_drift") ** 2 * drift
        )
        level, slope = self._power("log_level"), self._power("log_own_slope")
        rho = np.tanh(self.column("atanh_correlation"))[:, None, None]
        own = (
            level**2
            + rho * level * slope * (reach[:, :, None] + reach[:, None, :])
            + slope**2 * reach[:, :, None] * reach[:, None, :]
            + self._power("log_own_drift") ** 2 * faded
        )
        family = 1.0 / (1.0 + np.exp(-self.column("logit_family")))[:, None, None]
        return common, family * own, (1.0 - family) * own

    def noise(self, sizes: np.ndarray) -> np.ndarray:
        """Variance of a measurement of y, (n_components, n_sizes)."""
        small = self._power("log_small_noise")[:, 0] ** 2 * NOISE_SIZE / sizes
        return self._power("log_noise")[:, 0] ** 2 + small

    def floors(self, least: float) -> np.ndarray:
        """E for a smallest measured loss, (n_components,)."""
        return least * MAX_FLOOR / (1.0 + np.exp(-self.column("logit_floor")))


def _fading(decay: np.ndarray, change: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contributions to y of a slope at x = 0, and of a drifting slope, where slopes decay.

    A slope v decays by dv = -(decay + change x) v dx. With g the solution that starts at 1, a slope
    that arises at u adds R(x, u) = int_u^x g(t) / g(u) dt until x; integrals are sums over small
    steps.

    Args:
        decay: Rates at x = 0, shape (n_components,).
        change: By how much they change with x, same shape.
        x: Positions, shape (s,).

    Returns:
        R(x, 0), (n_components, s), and the covariance of a slope with unit drift, int R(x, u)
        R(x', u) du, (n_components, s, s).
    """
    edges = np.arange(0.0, x.max() + 2 * _STEP, _STEP)
    log_g = -(decay[:, None] * edges + change[:, None] * edges**2 / 2)
    g = np.exp(np.clip(log_g, -_STEEPEST, _STEEPEST))
    area = np.cumsum(0.5 * _STEP * (g[:, 1:] + g[:, :-1]), axis=1)
    area = np.concatenate([np.zeros((len(g), 1)), area], axis=1)
    place = x / _STEP
    low = place.astype(int)
    reach = area[:, low] + (place - low) * (area[:, low + 1] - area[:, low])
    middle = 0.5 * (area[:, 1:] + area[:, :-1])
    start = 0.5 * (g[:, 1:] + g[:, :-1])
    added = np.maximum(reach[:, :, None] - middle[:, None], 0.0) / start[:, None]
    return reach, _STEP * added @ added.swapaxes(1, 2)


@lru_cache(maxsize=4)
def load_prior(path: str | Path | None = None) -> CurvePrior:
    """The prior that was learned by `scripts/learn_prior.py`.

    Args:
        path: A CSV with columns `task`, `weight` and the parameters, lines that start with # being
            comments; by default the one of the package.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing.
    """
    path = Path(path or PRIOR_CSV)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a learned prior at {path}, found no file: run scripts/learn_prior.py"
        )
    table = pd.read_csv(path, comment="#")
    absent = [name for name in ("task", "weight", *PARAMETERS) if name not in table]
    if absent:
        raise ValueError(f"Expected a column {absent[0]!r} in {path}, found none")
    weights = table["weight"].to_numpy(dtype=float)
    return CurvePrior(
        tuple(table["task"].astype(str)),
        table[list(PARAMETERS)].to_numpy(dtype=float),
        weights / weights.sum(),
    )
