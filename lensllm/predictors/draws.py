"""Joint draws of the candidates' curves, and the protocol of predictors that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from lensllm.core.task import Task


@dataclass(frozen=True, eq=False)
class LossDraws:
    """Joint draws of log test loss, and the noise that one more measurement would add.

    Attributes:
        models: Names of the candidates that could be predicted, in the order of the task; a
            predictor may leave out candidates without a usable point.
        sizes: Sizes D > 0, ascending; the last one is D_full.
        log_loss: Log losses of the curves without the noise of a measurement, shape
            (n_draws, n_models, n_sizes). One draw is one possible state of all curves together.
        noise: Standard deviation of a measured log loss about its curve, shape (n_models,).
        n_known: Number of candidates that were measured on earlier tasks, where these are used.
    """

    models: tuple[str, ...]
    sizes: tuple[int, ...]
    log_loss: np.ndarray
    noise: np.ndarray
    n_known: int = 0

    def __post_init__(self) -> None:
        if list(self.sizes) != sorted(set(self.sizes)) or min(self.sizes, default=0) <= 0:
            raise ValueError(f"Expected ascending `sizes` > 0, got {list(self.sizes)}")
        expected = (len(self.models), len(self.sizes))
        if self.log_loss.ndim != 3 or self.log_loss.shape[1:] != expected:
            raise ValueError(
                f"Expected `log_loss` of shape (n_draws, {expected[0]}, {expected[1]}), "
                f"got {self.log_loss.shape}"
            )
        if self.noise.shape != (len(self.models),):
            raise ValueError(
                f"Expected `noise` of shape ({len(self.models)},), got {self.noise.shape}"
            )


class Predictor(Protocol):
    """A predictor of how the candidates' curves may go on."""

    def draws(
        self,
        task: Task,
        curves: pd.DataFrame,
        sizes: Sequence[int],
        *,
        n_draws: int,
        seed: int,
    ) -> LossDraws:
        """Joint draws at the given sizes.

        Args:
            task: The task, with the candidates' families and sizes.
            curves: Tidy table of the points seen.
            sizes: Sizes D > 0, ascending, measured ones permitted; D_full last.
            n_draws: Number of draws.
            seed: Seed of the draws.

        Returns:
            The draws; with fewer models than the task has where some cannot be predicted.
        """
        ...
