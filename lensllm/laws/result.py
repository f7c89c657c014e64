"""What a fit returns: parameters, goodness of fit, and how well the data determine them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.objectives import Objective
from lensllm.laws.posterior import LawPosterior, NoisePrior
from lensllm.laws.sampling import sample_posteriors
from lensllm.laws.solver import Problem, make_problem
from lensllm.laws.warnings import fit_warnings


@dataclass(frozen=True)
class LawFits:
    """Fits of one law to many curves.

    Attributes:
        laws: The law of each curve.
        objective: What was minimised.
        n_samples: Sizes D, shape (n_curves, n_sizes).
        losses: Losses, same shape; `nan` for absent points.
        weights: Weights, same shape; 0 for points that are absent or were left out.
        params: Parameters, shape (n_curves, n_params); `nan` for skipped curves.
        coordinates: The same in the law's fitting coordinates.
        log_reference: log R of the coordinates, shape (n_curves,).
        value: The objective at the optimum, shape (n_curves,).
        converged: Whether the last steps were negligible, shape (n_curves,).
        n_evaluations: Evaluations of the residuals, all starts together, shape (n_curves,).
        seed: Seed of the starts and of the posterior's draws.
    """

    laws: tuple[ScalingLaw, ...]
    objective: Objective
    n_samples: Array
    losses: Array
    weights: Array
    params: Array
    coordinates: Array
    log_reference: Array
    value: Array
    converged: Array
    n_evaluations: Array
    seed: int

    def __len__(self) -> int:
        return len(self.laws)

    def __getitem__(self, index: int) -> LawFit:
        return LawFit(self, range(len(self))[index])

    def __iter__(self) -> Iterator[LawFit]:
        return (LawFit(self, i) for i in range(len(self)))

    def take(self, rows: Sequence[int]) -> LawFits:
        """The fits of some curves, without what was cached for all."""
        index = np.asarray(rows, dtype=int)
        names = [
            item.name for item in fields(self) if item.name not in ("laws", "objective", "seed")
        ]
        arrays = {name: getattr(self, name)[index] for name in names}
        return replace(self, laws=tuple(self.laws[i] for i in index.tolist()), **arrays)

    @cached_property
    def problem(self) -> Problem:
        """The curves as the solver sees them."""
        return make_problem(self.laws, self.objective, self.n_samples, self.losses, self.weights)

    def predict(self, n_samples: ArrayLike) -> Array:
        """Fitted losses at sizes D of shape (n_points,): shape (n_curves, n_points)."""
        n = np.atleast_1d(np.asarray(n_samples, dtype=float))
        if len({id(law) for law in self.laws}) == 1:
            return self.laws[0](n, self.params)
        return np.stack([law(n, row) for law, row in zip(self.laws, self.params, strict=True)])

    @cached_property
    def log_residuals(self) -> Array:
        """Fitted minus observed log loss, shape (n_curves, n_sizes); `nan` where not fitted."""
        values, _ = self.problem.law.log_loss(
            self.problem.log_n, self.coordinates, self.log_reference, gradient=False
        )
        return np.where(self.weights > 0, values - self.problem.log_loss, np.nan)

    @cached_property
    def residuals(self) -> Array:
        """Fitted minus observed loss, same shape."""
        with np.errstate(invalid="ignore"):
            return self.losses * np.expm1(self.log_residuals)

    @property
    def n_points(self) -> Array:
        """Points that were fitted, shape (n_curves,)."""
        return (self.weights > 0).sum(axis=1)

    @property
    def rmse_log(self) -> Array:
        """Root mean squared residual on log loss (RSL's RMSD), shape (n_curves,)."""
        return np.sqrt(np.nansum(self.log_residuals**2, axis=1) / np.maximum(self.n_points, 1))

    @property
    def rmse(self) -> Array:
        """Root mean squared residual on loss, shape (n_curves,)."""
        return np.sqrt(np.nansum(self.residuals**2, axis=1) / np.maximum(self.n_points, 1))

    @property
    def transition_size(self) -> Array:
        """Transition size of each curve, shape (n_curves,)."""
        pairs = zip(self.laws, self.params, strict=True)
        return np.array([float(law.transition_size(row)) for law, row in pairs])

    @cached_property
    def warnings(self) -> tuple[tuple[str, ...], ...]:
        """What is wrong with each fit, in words; empty where nothing is."""
        return fit_warnings(self.problem, self.laws, self.params, self.coordinates, self.converged)

    @cached_property
    def posteriors(self) -> tuple[LawPosterior | None, ...]:
        """Posterior of each curve, `None` for skipped ones; see `sample_posteriors`."""
        return self.sample_posteriors()

    def sample_posteriors(
        self, prior: NoisePrior | None = None, n_draws: int = 1000
    ) -> tuple[LawPosterior | None, ...]:
        """Posteriors under another prior of the noise, or with other numbers of draws."""
        rows = np.flatnonzero(np.isfinite(self.params).all(axis=1))
        drawn = sample_posteriors(
            [self.laws[i] for i in rows],
            self.problem.take(rows),
            prior=prior,
            n_draws=n_draws,
            seed=self.seed,
        )
        found = dict(zip(rows.tolist(), drawn, strict=True))
        return tuple(found.get(i) for i in range(len(self)))


@dataclass(frozen=True)
class LawFit:
    """The fit of a law to one curve: a row of `LawFits`.

    Attributes:
        batch: The fits that it is one of.
        index: Index of the curve.
    """

    batch: LawFits
    index: int

    @property
    def law(self) -> ScalingLaw:
        """The law."""
        return self.batch.laws[self.index]

    @property
    def params(self) -> Array:
        """Parameters in the order of `law.param_names`, shape (n_params,)."""
        return self.batch.params[self.index]

    @property
    def named_params(self) -> dict[str, float]:
        """Parameters by name."""
        return dict(zip(self.law.param_names, map(float, self.params), strict=True))

    @property
    def used(self) -> Array:
        """Which of the curve's points were fitted, shape (n_sizes,)."""
        return self.batch.weights[self.index] > 0

    @property
    def n_samples(self) -> Array:
        """Sizes that were fitted, shape (n_points,)."""
        return self.batch.n_samples[self.index][self.used]

    @property
    def losses(self) -> Array:
        """Losses that were fitted, shape (n_points,)."""
        return self.batch.losses[self.index][self.used]

    @property
    def residuals(self) -> Array:
        """Fitted minus observed loss, shape (n_points,)."""
        return self.batch.residuals[self.index][self.used]

    @property
    def log_residuals(self) -> Array:
        """Fitted minus observed log loss, shape (n_points,)."""
        return self.batch.log_residuals[self.index][self.used]

    @property
    def rmse_log(self) -> float:
        """Root mean squared residual on log loss."""
        return float(np.sqrt(np.mean(self.log_residuals**2)))

    @property
    def rmse(self) -> float:
        """Root mean squared residual on loss."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    @property
    def value(self) -> float:
        """The objective at the optimum."""
        return float(self.batch.value[self.index])

    @property
    def converged(self) -> bool:
        """Whether the last steps were negligible."""
        return bool(self.batch.converged[self.index])

    @property
    def n_evaluations(self) -> int:
        """Evaluations of the residuals, all starts together."""
        return int(self.batch.n_evaluations[self.index])

    @property
    def transition_size(self) -> float:
        """Size at which the power phase begins; `nan` for laws without one."""
        return float(self.law.transition_size(self.params))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the fit, in words; empty where nothing is."""
        return self.batch.warnings[self.index]

    def predict(self, n_samples: ArrayLike) -> Array:
        """Fitted losses at sizes D, same shape as `n_samples`."""
        n = np.asarray(n_samples, dtype=float)
        return self.law(np.atleast_1d(n), self.params).reshape(n.shape)

    def n_samples_for(self, loss: float) -> float:
        """Size D at which the fitted law reaches a loss; infinite if it never does."""
        return float(self.law.n_samples_for(loss, self.params))

    @property
    def posterior(self) -> LawPosterior:
        """Draws of the law given this curve; made for the whole batch when first asked for.

        Raises:
            ValueError: The curve was skipped.
        """
        posterior = self.batch.posteriors[self.index]
        if posterior is None:
            raise ValueError(f"Expected a fitted curve, got a skipped one: {self.warnings[0]}")
        return posterior
