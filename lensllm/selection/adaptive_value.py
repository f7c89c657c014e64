"""What measurements are worth: the expected fall in regret, by joint draws of the curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from lensllm.selection.draws import LossDraws

# A measurement: (position of the candidate, position of the size) in the draws.
Cell = tuple[int, int]


class Beliefs:
    """Joint draws of the curves, and what imagined measurements would make of them.

    Args:
        draws: Joint draws; at least two.
        seed: Seed of the noise of imagined measurements, which is the same for every question, so
            that answers can be compared.
    """

    def __init__(self, draws: LossDraws, seed: int = 0) -> None:
        self.models = draws.models
        self.sizes = draws.sizes
        self.curves = draws.log_loss
        self.noise = draws.noise
        rng = np.random.default_rng(seed)
        error = rng.standard_normal(draws.log_loss.shape, dtype=np.float32)
        self.measured = draws.log_loss + draws.noise[:, None] * error

    @cached_property
    def losses(self) -> np.ndarray:
        """Draws of log L at D_full times the median L, shape (n_draws, n_models).

        Differences are nats per target token to first order. Not L itself: a candidate whose slope
        is unknown has a long upper tail, which would make its mean loss say little of its rank.
        """
        log_loss = self.curves[:, :, -1]
        return log_loss * math.exp(float(np.median(log_loss)))

    @cached_property
    def p_best(self) -> np.ndarray:
        """Share of draws in which each candidate has the smallest loss at D_full, (n_models,)."""
        return np.bincount(self.losses.argmin(axis=1), minlength=len(self.models)) / len(
            self.losses
        )

    @cached_property
    def choice(self) -> int:
        """Position of the candidate with the smallest expected log loss at D_full."""
        return int(self.losses.mean(axis=0).argmin())

    @property
    def regret(self) -> float:
        """Expected regret of choosing now, E[L_choice − min_j L_j], in nats."""
        return float((self.losses[:, self.choice] - self.losses.min(axis=1)).mean())

    def fall_in_regret(self, cells: Sequence[Cell]) -> float:
        r"""Expected fall in regret, in nats, if these losses were measured before choosing.

        The knowledge gradient (Frazier, Powell and Dayanik 2009, doi:10.1287/ijoc.1080.0314) of a
        set of measurements y under correlated beliefs:

            min_j E[L_j] − E_y[min_j E[L_j | y]],
            E[L_j | y] = E[L_j] + c_jᵀ (C + s² I)⁻¹ (y − E[y]),

        where C is the covariance of y without noise, c_j that of y and L_j, and s the noise of a
        measurement. Covariances come from one half of the draws and the choice that they lead to is
        judged on the other half, both ways round: chance correlations of the draws do not pass for
        knowledge.

        Args:
            cells: What would be measured, at least one.

        Returns:
            The fall; close to 0, on either side, where nothing is to be learned.
        """
        models, sizes = (list(column) for column in zip(*cells, strict=True))
        noise = np.diag(self.noise[models] ** 2)
        half = len(self.losses) // 2
        first, second = slice(None, half), slice(half, None)
        falls = []
        for learn, judge in ((first, second), (second, first)):
            curves, losses = self.curves[learn][:, models, sizes], self.losses[learn]
            centre, expected = curves.mean(axis=0), losses.mean(axis=0)
            shift = (curves - centre) / len(curves)
            own = shift.T @ (curves - centre) + noise
            own += 1e-9 * np.trace(own) * np.eye(len(own))
            gain = np.linalg.solve(own, shift.T @ (losses - expected))
            news = self.measured[judge][:, models, sizes] - centre
            judged = self.losses[judge]
            chosen = (expected + news @ gain).argmin(axis=1)
            falls.append(judged[:, expected.argmin()] - judged[np.arange(len(judged)), chosen])
        return float(np.concatenate(falls).mean())

    def believing(self, cell: Cell, seed: int) -> Beliefs:
        """The beliefs as if a trial that still runs came out at its expected loss.

        Every draw moves by cov(·, y) / (var y + s²) times how far its own imagined measurement y is
        from E[y] (Matheron's rule): expectations stay, and so does the uncertainty about everything
        that the trial does not tell.

        Args:
            cell: The trial that still runs.
            seed: See `Beliefs`; another one than that of these beliefs.
        """
        model, size = cell
        curve = self.curves[:, model, size]
        shift = curve - curve.mean()
        covariance = np.tensordot(shift, self.curves, axes=1) / len(shift)
        gain = covariance / (shift @ shift / len(shift) + self.noise[model] ** 2)
        surprise = self.measured[:, model, size] - curve.mean()
        moved = self.curves - surprise[:, None, None] * gain
        return Beliefs(LossDraws(self.models, self.sizes, moved, self.noise), seed)
