"""Budget-optimal probing: by levels, the budget divided among the best candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, STOPPED, Event
from lensllm.core.points import losses_by_size, too_small
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Budget, Task
from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.standing import Standing, judge
from lensllm.prehoc.stopping import StoppingRule
from lensllm.selectors.base import Decision, Selector, ask_for
from lensllm.selectors.forecast import N_DRAWS


@dataclass(frozen=True)
class BudgetOptimalProbing(Selector):
    """Probe all candidates, then probe an optimal number of the best ones at larger sizes.

    A probe is a run on D < D_full samples; its cost c is D / D_full. After each level, the law
    R(c) = σ²_int + κ c^(−α) of past tasks decides among how many of the best candidates, and up to
    which size, the remaining budget is divided. The law is in units of the variance of the
    candidates' losses (after Luo, Wang and Tang, arXiv:2606.17649) and is corrected by how the
    losses of this task changed: see `lensllm.prehoc.standing.judge`. Candidates are ranked by their
    latest losses; the losses of those that stopped early are lowered by what the others' losses
    fell since. No loss at D_full is predicted.

    Attributes:
        intrinsic: σ²_int of the relative law. The defaults are the law of the zoo's recorded
            curves; docstrings alone and wiki alone give nearly the same one
            (docs/results/prehoc.md).
        scale: κ, its reducible risk at c = 1.
        decay: α.
        n_tasks: Number of past tasks behind the law, which determines its weight.
        price: λ per full run in the unit of the law: a candidate's next probe is not run if its
            expected gain is below its price; 0 if only the budget limits.
        seed: Seed of the draws for the probability of being best.
    """

    intrinsic: float = 0.0
    scale: float = 0.13
    decay: float = 0.67
    n_tasks: float = 2.0
    price: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.intrinsic >= 0 and self.scale >= 0 and self.decay > 0):
            raise ValueError(
                "Expected `intrinsic` and `scale` >= 0 and `decay` > 0, got "
                f"{self.intrinsic:g}, {self.scale:g} and {self.decay:g}"
            )
        self.rule  # noqa: B018, checks price and n_tasks

    @property
    def rule(self) -> StoppingRule:
        """The stopping rule."""
        law = RiskLaw(self.intrinsic, self.scale, self.decay)
        return StoppingRule(law, self.price, n_tasks=self.n_tasks)

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The next level of the remaining candidates, within the budget; why the others stop.

        Raises:
            BudgetTooSmallError: Not even the smallest size of every candidate can be paid for.
        """
        sizes = _sizes(task, budget)
        standing = self._standing(task, curves, sizes, budget.remaining)
        if standing.reached.max() < 0 and len(standing.going_on) < len(task.names):
            needed = sum(task.costs[name, sizes[0]] for name in task.names)
            what = f"one trial of every candidate at D = {sizes[0]}"
            raise too_small(task, budget, what, needed)
        stopped = [
            Event(STOPPED, task.names[i], reason=why.reason, message=why.detail)
            for i, why in standing.decisions.items()
        ]
        pairs = [(task.names[i], sizes[standing.level]) for i in standing.going_on]
        return ask_for(task, curves, pairs, *stopped)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the latest losses, corrected to the same depth."""
        sizes = _sizes(task, Budget())
        standing = self._standing(task, curves, sizes, 0.0)
        chances = self._chances(task, standing, sizes)
        entries = []
        for i, name in enumerate(task.names):
            loss, level = float(standing.losses[i]), int(standing.reached[i])
            if level < 0 or not math.isfinite(loss):
                status = "no usable trial" if level < 0 else f"diverged at D = {sizes[level]}"
                entries.append(RankedModel(name, math.nan, status=status))
                continue
            entries.append(RankedModel(name, loss, p_best=chances[i]))
        deepest = sizes[int(standing.reached.max())] if standing.reached.max() >= 0 else 0
        by = Event(RANKED_BY, reason="latest", n_samples=deepest)
        return Selection.of(self.name, task, entries, by)

    def _standing(
        self, task: Task, curves: pd.DataFrame, sizes: tuple[int, ...], left: float
    ) -> Standing:
        """The state of all candidates, given the curves so far."""
        seen = losses_by_size(curves, task.measure)
        losses = np.array(
            [[_loss(seen.get(name, {}), size) for size in sizes] for name in task.names]
        )
        costs = np.array([[task.costs[name, size] for size in sizes] for name in task.names])
        return judge(self.rule, np.array(sizes) / task.n_samples_full, losses, costs, left)

    def _chances(self, task: Task, standing: Standing, sizes: tuple[int, ...]) -> np.ndarray:
        """Probability of each to have the smallest loss: Gaussian, with variance R(c) at its c."""
        costs = np.array([sizes[max(level, 0)] for level in standing.reached]) / task.n_samples_full
        spread = np.sqrt(self.rule.law(costs) * standing.unit)
        usable = np.isfinite(standing.losses) & (standing.reached >= 0)
        middle = np.where(usable, standing.losses, 1e300)
        z = np.random.default_rng(self.seed).normal(size=(N_DRAWS, len(middle)))
        winners = np.argmin(middle + spread * z, axis=1)
        return np.bincount(winners, minlength=len(middle)) / N_DRAWS


def _sizes(task: Task, budget: Budget) -> tuple[int, ...]:
    """Sizes D > 0 that every candidate has and the budget permits, ascending.

    Raises:
        ValueError: There is none.
    """
    common = set.intersection(*(set(task.available[name]) for name in task.names))
    sizes = tuple(sorted(n for n in common if n > 0 and budget.allows(n)))
    if not sizes:
        raise ValueError(
            f"Expected a size 0 < D < {task.n_samples_full} that every candidate has on "
            f"{task.dataset!r}, found none"
        )
    return sizes


def _loss(seen: dict[int, float], size: int) -> float:
    """Loss at a size; `nan` where it was not probed, `inf` where every run diverged."""
    if size not in seen:
        return math.nan
    return seen[size] if math.isfinite(seen[size]) else math.inf
