"""The adaptive selector: spend where it is expected to lower regret the most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.selection.adaptive_options import Option, best_option, hopeless
from lensllm.selection.adaptive_start import first_trials, next_of_silent
from lensllm.selection.adaptive_value import Beliefs, Cell
from lensllm.selection.adaptive_words import (
    words_of_end,
    words_of_option,
    words_of_silent,
    words_of_start,
    words_of_stopped,
)
from lensllm.selection.base import Budget, Decision, Selection, Selector, Task
from lensllm.selection.draws import LossDraws, Predictor
from lensllm.selection.forecast import forecasts_of_draws, rank_forecasts, rank_losses_at
from lensllm.selection.points import losses_by_size
from lensllm.trials import Trial

# A set of trials that costs less than this share of what is left is run as a whole.
SMALL_SHARE = 0.05
# For the ranking, which needs them at D_full only, there are this many times more draws.
RANKING = 5


@dataclass(frozen=True)
class Adaptive(Selector):
    """The next trial is the one with the largest expected fall in regret per FLOP.

    After a few of the smallest sizes of every candidate, a predictor gives joint draws of all
    curves up to D_full. From them come the expected regret of choosing now, and by how much each
    trial that is affordable, alone or in a set, would lower it (`Beliefs.fall_in_regret`). The
    best value for FLOPs is run, and so on, until nothing affordable is worth its price.

    Attributes:
        predictor: Who draws the curves.
        price: Least expected fall in regret, in nats, for which one would pay the FLOPs of
            fine-tuning every candidate in full; 0.1 is 0.001 nats for every 1 % of it. 0 spends the
            whole budget.
        batch_size: Trials a decision; those beyond the first believe that the ones before come out
            at their expected losses (the Kriging believer of Ginsbourger, Le Riche and Carraro
            2010, doi:10.1007/978-3-642-10701-6_6).
        given_up: Probability of losing the best candidate that is accepted by stopping others
            early, in [0, 1).
        start_points: Smallest sizes of every candidate to begin with.
        start_share: Share of the budget that these may take, in (0, 1]; fewer sizes where they
            would take more, but at least one.
        n_draws: Joint draws.
        seed: Seed of the draws.
    """

    predictor: Predictor
    price: float = 0.1
    batch_size: int = 1
    given_up: float = 0.02
    start_points: int = 4
    start_share: float = 0.35
    n_draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.price >= 0:
            raise ValueError(f"Expected `price` >= 0 nats a full tuning, got {self.price:g}")
        if not 0 <= self.given_up < 1:
            raise ValueError(f"Expected `given_up` in [0, 1), got {self.given_up:g}")
        if not 0 < self.start_share <= 1:
            raise ValueError(f"Expected `start_share` in (0, 1], got {self.start_share:g}")
        for name, least in (("batch_size", 1), ("start_points", 1), ("n_draws", 100)):
            if getattr(self, name) < least:
                raise ValueError(f"Expected `{name}` >= {least}, got {getattr(self, name)}")

    def wants(self, task: Task, curves: pd.DataFrame, budget: Budget) -> list[tuple[str, int]]:
        """The trials of the next decision."""
        trials = self.decide(task, curves, budget).trials
        return [(trial.model, trial.n_samples) for trial in trials]

    def decide(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The next trials and why, or why no more.

        Raises:
            BudgetTooSmallError: Not even one trial of every candidate is affordable.
        """
        seen = losses_by_size(curves)
        start = first_trials(task, budget, self.start_points, self.start_share)
        missing = [(model, n) for model, n in start if n not in seen.get(model, {})]
        if missing:
            return Decision(_trials(task, missing), (words_of_start(task, missing),))
        sizes = [n for n in task.sizes if n > 0 and budget.allows(n)]
        draws = self._draws(task, curves, sizes, self.n_draws)
        silent = [model for model in task.names if model not in draws.models]
        unheard = next_of_silent(task, budget, seen, silent)
        if unheard:
            return Decision(_trials(task, unheard), (words_of_silent(unheard),))
        if not draws.models:
            return Decision((), ("no more trials: too little is affordable for a prediction",))
        return self._spend(task, seen, budget, Beliefs(draws, self.seed))

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """By expected log loss at D_full, or where none can tell by the largest size all have."""
        draws = self._draws(task, curves, [], RANKING * self.n_draws)
        if not draws.models:
            losses = losses_by_size(curves)
            shared = set.intersection(*(set(losses.get(model, {})) for model in task.names))
            size = max(shared, default=0)
            return rank_losses_at(self.name, task, losses, size, f"loss at D = {size}")
        forecasts = forecasts_of_draws(draws, self.seed)
        basis = f"{len(draws.log_loss)} joint draws of {draws.basis}"
        return rank_forecasts(self.name, task, forecasts, basis)

    def _draws(self, task: Task, curves: pd.DataFrame, sizes: list[int], n_draws: int) -> LossDraws:
        """Joint draws at these sizes and D_full; of nobody where nothing usable was measured."""
        every = (*sizes, task.n_samples_full)
        losses = curves["test_loss"].to_numpy(dtype=float)
        if not np.isfinite(losses[curves["n_samples"] > 0]).any():
            return LossDraws((), every, np.zeros((n_draws, 0, len(every))), np.zeros(0))
        return self.predictor.draws(task, curves, every, n_draws=n_draws, seed=self.seed)

    def _spend(
        self,
        task: Task,
        seen: dict[str, dict[int, float]],
        budget: Budget,
        beliefs: Beliefs,
    ) -> Decision:
        """The trials that are worth most, as many as a batch has."""
        largest = {model: max(seen.get(model, {}), default=0) for model in task.names}
        out = hopeless(beliefs.p_best, self.given_up)
        stopped = words_of_stopped(beliefs, out, largest)
        alive = [int(m) for m in np.flatnonzero(~out)]
        chosen: list[tuple[str, int]] = []
        reasons: list[str] = []
        remaining = budget.remaining
        while len(chosen) < self.batch_size:
            option = best_option(task, beliefs, largest, alive, remaining)
            if option is None or not option.worth > self.price:
                if not chosen:
                    reasons.append(words_of_end(beliefs, option, self.price, remaining, task))
                break
            cells = self._part(option, len(chosen), remaining / task.full_cost)
            pairs = [(beliefs.models[m], beliefs.sizes[s]) for m, s in cells]
            reasons.append(words_of_option(beliefs, option, pairs))
            chosen += pairs
            remaining -= sum(task.costs[pair] for pair in pairs)
            largest |= dict(pairs)
            if len(chosen) < self.batch_size:
                for cell in cells:
                    beliefs = beliefs.believing(cell, self.seed + len(chosen))
        return Decision(_trials(task, chosen), tuple(reasons), stopped)

    def _part(self, option: Option, n_chosen: int, left: float) -> tuple[Cell, ...]:
        """Of a set as many trials as fit into the batch; a cheap set as a whole."""
        if option.share <= SMALL_SHARE * left:
            return option.cells
        return option.cells[: self.batch_size - n_chosen]


def _trials(task: Task, pairs: list[tuple[str, int]]) -> tuple[Trial, ...]:
    return tuple(task.trial(model, n_samples) for model, n_samples in pairs)
