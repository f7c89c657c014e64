"""What a scaling law is: its equation, its gradient, and the coordinates in which it is fitted."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray

# Box of the exponent β. Below 0.01 a law is flat over any data set there is; the steepest exponent
# of a clean fit on the benchmark of the rectified law is below 2.
BETA_BOUNDS = (0.01, 4.0)
# Sizes within exp(±700), all that double precision holds, are searched by bisection.
_MAX_LOG_SIZE, _HALVINGS = 700.0, 70


@dataclass(frozen=True)
class ScalingLaw(ABC):
    r"""Test loss after fine-tuning on D samples: L(D) = (B · G(D) + E)^α.

    G falls in D; its *shape* parameters (β and any others of the law) are defined by the subclass.
    `scale` B and `irreducible_loss` E enter linearly inside the power, and α is 1 unless a law says
    otherwise. Parameters are arrays whose last axis follows `param_names`; all functions broadcast
    over the axes before it.

    A user-defined law has `param_names`, `shape_names`, `__call__`, `shape_bounds`, `log_shape`,
    `params_of` and `prior_shape`; the rest has defaults.

    Fitting happens in *coordinates* in which short curves are well conditioned (`coordinates`):
    c = log L(R), p = the reducible share B·G(R) / (B·G(R) + E) in [0, 1], and the shape
    coordinates, where R is a reference size within the range of the data. E ≥ 0 and B ≥ 0 are then
    the box 0 ≤ p ≤ 1, and

        log L(D) = c + α log(p g(D) + 1 − p),    g(D) = G(D) / G(R).
    """

    @property
    @abstractmethod
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the last axis of `params`."""

    @property
    @abstractmethod
    def shape_names(self) -> tuple[str, ...]:
        """Names of the shape coordinates, those after c and p."""

    @property
    def name(self) -> str:
        """Name in tables; by default the class name without `Law` in snake case."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__.removesuffix("Law"))
        return words.lower()

    @property
    def n_params(self) -> int:
        """Number of parameters that a fit determines."""
        return len(self.param_names)

    @property
    def defined_at_zero(self) -> bool:
        """Whether L(0) is finite, so that a fit can use D = 0."""
        return True

    @abstractmethod
    def __call__(self, n_samples: ArrayLike, params: ArrayLike) -> Array:
        """Evaluate the law.

        Args:
            n_samples: Sizes D ≥ 0, shape (..., n_sizes).
            params: Parameters, shape (..., n_params).

        Returns:
            Test losses in nats per target token, shape (..., n_sizes).
        """

    def n_samples_for(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """Size D at which the law reaches a loss; by bisection where a law has no closed form.

        Args:
            loss: Target test loss, shape (...).
            params: Parameters, shape (..., n_params).

        Returns:
            D; 0 where the loss of the pre-trained model suffices, infinite at or below the
            irreducible loss.
        """
        array = np.asarray(params, dtype=float)
        target = np.broadcast_to(np.asarray(loss, dtype=float), array.shape[:-1])
        low, high = (np.full(target.shape, end) for end in (-_MAX_LOG_SIZE, _MAX_LOG_SIZE))
        with np.errstate(over="ignore", divide="ignore"):
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                above = self(np.exp(middle)[..., None], array)[..., 0] > target
                low, high = np.where(above, middle, low), np.where(above, high, middle)
        size = np.exp(0.5 * (low + high))
        size = np.where(low == -_MAX_LOG_SIZE, 0.0, size)
        return np.where(high == _MAX_LOG_SIZE, np.inf, size)

    def transition_size(self, params: ArrayLike) -> Array:
        """Size at which the pre-power phase gives way to the power phase; `nan` if none exists."""
        return np.full(np.shape(params)[:-1], np.nan)

    @abstractmethod
    def shape_bounds(self, log_n_min: Array, log_n_max: Array) -> tuple[Array, Array]:
        """Box of the shape coordinates.

        Args:
            log_n_min: Log of the smallest D > 0 of each curve, shape (n_curves,).
            log_n_max: Log of the largest D, shape (n_curves,).

        Returns:
            Lower and upper ends, each of shape (n_curves, n_shape).
        """

    def design_shape(self, unit: Array, lower: Array, upper: Array) -> Array:
        """Shapes at which a fit may start, for points of the unit cube.

        β is a scale: squaring puts most of it below 1, where the exponents of fits lie. The other
        coordinate is laid evenly on its box.

        Args:
            unit: Points of the unit cube, shape (n_shapes, n_shape).
            lower: Lower ends of the box, shape (n_curves, 1, n_shape).
            upper: Upper ends, same shape.

        Returns:
            Shape (n_curves, n_shapes, n_shape).
        """
        unit = np.concatenate([unit[:, :1] ** 2, unit[:, 1:]], axis=1)
        return lower + (upper - lower) * unit

    @abstractmethod
    def log_shape(self, log_n: Array, shape: Array, gradient: bool = True) -> tuple[Array, Array]:
        """Log of G and its derivatives by the shape coordinates.

        Args:
            log_n: Log sizes, −∞ for D = 0, shape (..., n_sizes).
            shape: Shape coordinates, shape (..., n_shape).
            gradient: Whether the derivatives are wanted.

        Returns:
            log G of shape (..., n_sizes); its derivatives, shape (n_shape, ..., n_sizes), or an
            empty array. Coordinates on which G does not depend (log α) have zero rows.
        """

    @property
    def exponent_index(self) -> int | None:
        """Index of the shape coordinate log α; `None` where α is 1."""
        return None

    def exponent(self, shape: Array) -> Array | float:
        """α for given shape coordinates, shape (...) or 1."""
        return 1.0 if self.exponent_index is None else np.exp(shape[..., self.exponent_index])

    @abstractmethod
    def params_of(self, coordinates: Array, log_reference: Array) -> Array:
        """Parameters for coordinates `(c, p, *shape)`, shape (..., n_coordinates)."""

    @abstractmethod
    def prior_shape(self) -> tuple[Array, Array]:
        """Centre and width of the normal prior of the free shape coordinates, each (n_free,)."""

    def free_to_shape(self, free: Array) -> Array:
        """Shape coordinates of the posterior's unbounded ones, shape (..., n_free): log β first."""
        return np.concatenate([np.exp(free[..., :1]), free[..., 1:]], axis=-1)

    def log_loss(
        self, log_n: Array, coordinates: Array, log_reference: Array, gradient: bool = True
    ) -> tuple[Array, Array]:
        """Log of the loss and its derivatives by the coordinates.

        Args:
            log_n: Log sizes, −∞ for D = 0, shape (..., n_sizes).
            coordinates: `(c, p, *shape)`, shape (..., n_coordinates).
            log_reference: log R, shape (...).
            gradient: Whether the derivatives are wanted.

        Returns:
            log L, shape (..., n_sizes), and its derivatives, shape (n_coordinates, ..., n_sizes),
            or an empty array.
        """
        shape = coordinates[..., 2:]
        at_reference, d_reference = self.log_shape(log_reference[..., None], shape, gradient)
        log_g, d_shape = self.log_shape(log_n, shape, gradient)
        g = np.exp(np.minimum(log_g - at_reference, 300.0))
        p = coordinates[..., 1, None]
        u = np.maximum(p * g + (1.0 - p), np.finfo(float).tiny)
        alpha = np.asarray(self.exponent(shape))[..., None]
        log_u = np.log(u)
        values = coordinates[..., 0, None] + alpha * log_u
        if not gradient:
            return values, np.empty(0)
        jacobian = np.empty((coordinates.shape[-1], *values.shape))
        jacobian[0] = 1.0
        jacobian[1] = alpha * (g - 1.0) / u
        jacobian[2:] = (alpha * p * g / u) * (d_shape - d_reference)
        if self.exponent_index is not None:
            jacobian[2 + self.exponent_index] += alpha * log_u
        return values, jacobian


def split(params: ArrayLike) -> tuple[Array, ...]:
    """Split an array of parameters along its last axis into arrays of shape (..., 1)."""
    array = np.asarray(params, dtype=float)
    return tuple(array[..., i, None] for i in range(array.shape[-1]))


def log_sizes(n_samples: ArrayLike) -> Array:
    """Natural log of sizes, −∞ for D = 0, without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(n_samples, dtype=float))
