"""The phase diagram: what a task's outcome can be predicted from, if from anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lensllm.prehoc.risk import Decomposition

Regime = Literal["static-sufficient", "dynamic-critical", "noise-dominant", "mixed"]
REGIMES: tuple[Regime, ...] = ("static-sufficient", "dynamic-critical", "noise-dominant")
MAJORITY = 0.5
RESOLUTION = 0.01  # nats per token: models whose mean losses differ by less are equally good
RARE = 0.01  # share of the draws below which a regime is not mentioned
EXCESS = 2.0  # a fitted σ²_int beyond this many times the variance over seeds is not noise


@dataclass(frozen=True, eq=False)
class Phase:
    """Where a task lies in the phase diagram.

    Var(Y) has three parts, and the one that makes up most of it names the regime: what static
    features explain, 1 − R(0)/Var(Y) (Static-Sufficient: R(0) is low, hence near σ²_int); what
    probes explain beyond them, (R(0) − σ²_int)/Var(Y) (Dynamic-Critical: R(0) is high and V falls);
    what nothing explains, σ²_int/Var(Y) (Noise-Dominant). The boundaries are where a part is one
    half; where no part is, the task is `mixed`.

    Attributes:
        task: Name of the task.
        regime: The part that is most of Var(Y), by the point estimate.
        shares: (static, dynamic, intrinsic), sum 1.
        intervals: Percentile interval of each share, shape (3, 2).
        support: Share of draws in each of `REGIMES`, and in none (`mixed`), length 4.
        level: Level of the intervals.
        draws: Bootstrap draws of the shares, shape (n_draws, 3).
        seed_share: Variance over seeds as a share of Var(Y). Static features can distinguish all
            models, so σ²_int cannot exceed it.
        model_range: How far the worst model's mean Y is above the best one's, nats.
    """

    task: str
    regime: Regime
    shares: np.ndarray
    intervals: np.ndarray
    support: np.ndarray
    level: float
    draws: np.ndarray
    seed_share: float
    model_range: float

    @property
    def nothing_to_choose(self) -> bool:
        """Whether all models end so near each other that R(0) is low whatever its parts are."""
        return self.model_range <= RESOLUTION

    @property
    def unresolved(self) -> bool:
        """Whether most of what looks intrinsic is due to too few or too different models."""
        return self.regime == "noise-dominant" and self.shares[2] > EXCESS * self.seed_share

    @property
    def near_boundary(self) -> bool:
        """Whether the interval of the part that names the regime reaches one half."""
        if self.regime == "mixed":
            return True
        return bool(self.intervals[REGIMES.index(self.regime), 0] <= MAJORITY)

    @property
    def verdict(self) -> str:
        """The regime, or the regimes between which the task lies, or that the data cannot tell.

        Where all models are equally good the verdict says so first; the regime then describes the
        variance that is left.
        """
        if self.nothing_to_choose:
            return f"nothing to choose within {self.model_range:.2g} nats; else {self._of_variance}"
        return self._of_variance

    @property
    def _of_variance(self) -> str:
        """What the parts of Var(Y) say."""
        if self.unresolved:
            return f"unresolved (seeds are only {self.seed_share:.0%} of Var(Y))"
        if not self.near_boundary:
            return self.regime
        likely = [
            f"{name} {share:.0%}"
            for name, share in zip((*REGIMES, "mixed"), self.support, strict=True)
            if share >= RARE
        ]
        return f"near a boundary ({', '.join(likely)})"


def classify(shares: np.ndarray) -> np.ndarray:
    """Position in (*REGIMES, mixed) of rows of shares, shape (n_rows,)."""
    found = np.argmax(shares, axis=-1)
    return np.where(shares.max(axis=-1) > MAJORITY, found, len(REGIMES))


def locate(decomposition: Decomposition, level: float = 0.9) -> Phase:
    """The phase of a task from its decomposition.

    Args:
        decomposition: What `decompose` found.
        level: Level of intervals and of a clear regime.
    """
    point, draws = decomposition.shares[0], decomposition.shares[1:]
    support = np.bincount(classify(draws), minlength=4) / len(draws)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return Phase(
        task=decomposition.task,
        regime=(*REGIMES, "mixed")[int(classify(point))],
        shares=point,
        intervals=np.quantile(draws, tails, axis=0).T,
        support=support,
        level=level,
        draws=draws,
        seed_share=decomposition.seed_variance / decomposition.outcome_variance,
        model_range=decomposition.model_range,
    )
