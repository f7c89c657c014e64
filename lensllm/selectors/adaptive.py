"""The adaptive selector: spend where it is expected to lower regret the most."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from lensllm.core.events import STOPPED, Event
from lensllm.core.points import losses_by_size, too_small
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.predictors import CurvePredictor
from lensllm.selectors.base import Decision, Selector, ask_for
from lensllm.selectors.value import Outlook, Plan
from lensllm.selectors.verdict import HELD, rank_by

# Draws for P(best) when the next trials are chosen.
N_DRAWS = 600
# Candidates with at most this probability of being best get no more trials.
HOPELESS = 0.002
# Candidates whose trials are considered: those with the largest P(best).
MAX_WEIGHED = 40
# Failed trials after which a candidate is given up.
MAX_FAILED = 2


@dataclass(frozen=True)
class Adaptive(Selector):
    """Run the first round of the plan with the smallest expected loss of the final choice.

    A predictor gives a joint posterior over the curves of all candidates. Every decision compares
    plans of one or two rounds for the whole remaining budget, by the expected loss of the candidate
    that would be chosen after them: a plan is worth min_i E[L_i] − E[min_i E[L_i | what it
    measures]], the knowledge gradient, for losses L_i at D_full. It runs the first round of the
    best plan and then plans again. Before the first trial, plans differ in the size at which all
    candidates begin.

    While trials run, it plans as if they had ended with the expected losses (the kriging believer
    of Ginsbourger, Le Riche and Carraro 2010, doi:10.1007/978-3-642-10701-6_6), once every
    candidate has a usable loss.

    Attributes:
        predictor: The predictor of the curves.
        nats_per_full_tuning: λ, the smallest expected fall in regret that justifies the FLOPs of
            fine-tuning every candidate in full, in the unit of the task's measure (nats for
            losses); 0 spends whatever may still change the choice.
        seed: Seed of the draws.
    """

    asks_early: ClassVar[bool] = True
    predictor: CurvePredictor = field(default_factory=CurvePredictor)
    nats_per_full_tuning: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.nats_per_full_tuning >= 0:
            raise ValueError(
                f"Expected `nats_per_full_tuning` >= 0, got {self.nats_per_full_tuning:g}"
            )

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The next round and the reason for it, or the reason for stopping.

        Raises:
            BudgetTooSmallError: Not even one trial of every candidate is affordable.
        """
        seen = {
            model: {n: loss for n, loss in points.items() if n > 0}
            for model, points in losses_by_size(curves, task.measure).items()
        }
        sizes = [n for n in task.sizes if n > 0 and budget.allows(n)]
        failed = [m for m in task.names if not any(map(math.isfinite, seen.get(m, {}).values()))]
        if any(model in failed for model, _ in budget.pending):
            return Decision()
        fresh = [model for model in task.names if not seen.get(model)]
        if fresh:
            return self._start(task, curves, budget, sizes, fresh)
        again = _again(task, budget, sizes, {m: seen[m] for m in failed})
        if again:
            why = Event("next", reason="no_usable_trial", trials=tuple(again))
            return ask_for(task, curves, again, why)
        alive = set(task.names) - set(failed)
        if not alive:
            return Decision((), (Event("ended", reason="all_failed"),))
        return self._spend(task, curves, budget, sizes, alive, seen)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by expected log loss at D_full, smallest first."""
        return rank_by(self.predictor, self.name, task, curves, self.seed)

    def curve_draws(
        self, task: Task, curves: pd.DataFrame, model: str, sizes: np.ndarray, n_draws: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws of the predictor."""
        *first, last = (int(n) for n in sizes)
        beliefs = self.predictor.posterior(task, curves, first, last)
        return beliefs.draws_of(task.names.index(model), n_draws, self.seed)

    def _start(
        self,
        task: Task,
        curves: pd.DataFrame,
        budget: Budget,
        sizes: Sequence[int],
        fresh: Sequence[str],
    ) -> Decision:
        """One size of every candidate that has none yet: the one that the best plan begins with."""
        own = {m: [n for n in task.available[m] if n in set(sizes)] for m in fresh}
        lacking = [model for model, found in own.items() if not found]
        if lacking:
            none = f"none for {lacking[0]!r}"
            raise too_small(task, budget, "a trial of every candidate", None, none)
        rounds = [
            [(m, max([n for n in own[m] if n <= size], default=own[m][0])) for m in fresh]
            for size in sizes
        ]
        cost = [sum(task.costs[pair] for pair in pairs) for pairs in rounds]
        allowed = budget.remaining * (1 + 1e-9)
        if cost[0] > allowed:
            what = "the smallest trial of every candidate"
            raise too_small(task, budget, what, budget.spent + cost[0])
        weighed = fresh[:MAX_WEIGHED]
        place = {size: s for s, size in enumerate(sizes)}
        row = {model: k for k, model in enumerate(weighed)}
        firsts = [[(row[m], place[n]) for m, n in pairs if m in row] for pairs in rounds]
        outlook = self._outlook(task, curves, sizes, weighed)
        left = budget.remaining * len(weighed) / len(fresh)
        costs = self._costs(task, sizes, weighed, set())
        scale = math.exp(float(outlook.mean[:, -1].min()))
        price = self.nats_per_full_tuning / scale / task.full_cost
        plan = outlook.best_plan(costs, left, self.seed, firsts, price)
        first = 0 if plan is None else firsts.index(list(plan.cells))
        while cost[first] > allowed:  # of many candidates only some were considered
            first -= 1
        chosen = rounds[first]
        share = sum(task.costs[pair] for pair in chosen) / task.full_cost
        why = Event("started", trials=tuple(chosen), numbers={"cost_fraction": share})
        return ask_for(task, curves, chosen, why)

    def _spend(
        self,
        task: Task,
        curves: pd.DataFrame,
        budget: Budget,
        sizes: Sequence[int],
        usable: Collection[str],
        seen: Mapping[str, Mapping[int, float]],
    ) -> Decision:
        """The first round of the best plan for the remaining budget."""
        every = task.names
        beliefs = self.predictor.posterior(task, curves, sizes)
        rows = np.array([i for i, model in enumerate(every) if model in usable])
        draws, _ = beliefs.draws(N_DRAWS, self.seed)
        p_best = np.bincount(draws[:, rows].argmin(axis=1), minlength=len(rows)) / N_DRAWS
        chances = {every[row]: float(chance) for row, chance in zip(rows, p_best, strict=True)}
        by_chance = np.argsort(-p_best, kind="stable")
        kept = by_chance[:MAX_WEIGHED]
        kept = kept[(p_best[kept] > HOPELESS) | (np.arange(len(kept)) == 0)]
        names = [every[rows[k]] for k in kept]
        stopped = [
            Event(STOPPED, model, max(seen[model]), float(chance), "hopeless")
            for model, chance in ((every[rows[k]], p_best[k]) for k in by_chance)
            if model not in names
        ]
        pending = [(m, n) for m, n in budget.pending if m in names and n in sizes]
        outlook = Outlook(*beliefs.moments(rows[kept])).believing(
            [(names.index(model), sizes.index(n)) for model, n in pending]
        )
        best = names[int(outlook.mean[:, -1].argmin())]
        scale = math.exp(float(outlook.mean[:, -1].min()))
        losses = np.exp(draws[:, rows])
        choice = int(beliefs.expected[rows, -1].argmin())
        regret = float((losses[:, choice] - losses.min(axis=1)).mean())
        now = Event("next", best, reason="gain", numbers={"expected_regret": regret})
        tried = {(model, n) for model, points in seen.items() for n in points} | set(pending)
        left = budget.remaining
        costs = self._costs(task, sizes, names, tried)
        price = self.nats_per_full_tuning / scale / task.full_cost
        seed = self.seed + len(curves)
        plan = outlook.best_plan(costs, left, seed, None, price) if len(names) > 1 else None
        planned = now if plan is None else _planned(now, plan, names, sizes, scale, task)
        if plan is not None and self._worth(plan, scale, task):
            decision = ask_for(task, curves, planned.trials, *stopped, planned)
            return replace(decision, p_best=chances)
        second = tuple(_second_sizes(task, budget, names, p_best[kept], tried))
        if second:
            why = replace(now, reason="second_size", trials=second)
            return replace(ask_for(task, curves, second, *stopped, why), p_best=chances)
        if plan is not None:
            reason = "price" if self.nats_per_full_tuning else "no_gain"
        elif len(names) < 2:
            reason = "alone"
        else:
            reason = "unaffordable" if np.isfinite(costs).any() else "all_run"
        numbers = {**planned.numbers, "left_fraction": left / task.full_cost}
        chance = float(p_best.max())
        end = replace(planned, kind="ended", reason=reason, value=chance, numbers=numbers)
        return Decision((), (*stopped, end), chances)

    def _worth(self, plan: Plan, scale: float, task: Task) -> bool:
        """Whether a plan's value is significantly above 0 and worth its price."""
        price = self.nats_per_full_tuning * plan.cost / task.full_cost
        return plan.value > 2 * plan.error and scale * plan.value > price

    def _outlook(
        self, task: Task, curves: pd.DataFrame, sizes: Sequence[int], models: Sequence[str]
    ) -> Outlook:
        beliefs = self.predictor.posterior(task, curves, sizes)
        rows = np.array([task.names.index(model) for model in models])
        return Outlook(*beliefs.moments(rows))

    def _costs(
        self,
        task: Task,
        sizes: Sequence[int],
        models: Sequence[str],
        tried: set[tuple[str, int]],
    ) -> np.ndarray:
        """Cost of each trial that is still open, `inf` for the others: (n_models, n_sizes)."""
        return np.array(
            [
                [
                    task.costs[model, n]
                    if n in task.available[model] and (model, n) not in tried
                    else math.inf
                    for n in sizes
                ]
                for model in models
            ]
        ).reshape(len(models), len(sizes))


def _again(
    task: Task,
    budget: Budget,
    sizes: Sequence[int],
    failed: Mapping[str, Mapping[int, float]],
) -> list[tuple[str, int]]:
    """The next larger size of candidates whose few trials all failed, if that is affordable."""
    pairs = []
    for model, points in failed.items():
        larger = [n for n in task.available[model] if n > max(points) and n in set(sizes)]
        if len(points) < MAX_FAILED:
            pairs += [(model, n) for n in larger[:1]]
    cost = sum(task.costs[pair] for pair in pairs)
    return pairs if cost <= budget.remaining else []


def _second_sizes(
    task: Task,
    budget: Budget,
    models: Sequence[str],
    p_best: np.ndarray,
    tried: Collection[tuple[str, int]],
) -> list[tuple[str, int]]:
    """A second size, as large as the budget allows, of contenders measured at only one.

    Args:
        task: The selection task.
        budget: What may be spent.
        models: Candidates, in descending order of P(best).
        p_best: Their probabilities of being best.
        tried: The (candidate, D) pairs of the trials so far.
    """
    sizes = Counter(model for model, _ in tried)
    count = int(np.searchsorted(np.cumsum(p_best), HELD * p_best.sum() - 1e-9)) + 1
    single = [model for model in models[: min(count, 4)] if sizes[model] == 1]
    left, pairs = budget.remaining, []
    for k, model in enumerate(single):
        share = left / (len(single) - k)
        fit = [
            n
            for n in task.available[model]
            if n > 0
            and budget.allows(n)
            and (model, n) not in tried
            and task.costs[model, n] <= share
        ]
        if fit:
            pairs.append((model, fit[-1]))
            left -= task.costs[pairs[-1]]
    return pairs


def _planned(
    event: Event, plan: Plan, names: Sequence[str], sizes: Sequence[int], scale: float, task: Task
) -> Event:
    """The event with a plan's trials, its cost and its expected gain (nats)."""
    numbers = {
        **event.numbers,
        "gain": scale * max(plan.value, 0.0),
        "cost_fraction": plan.cost / task.full_cost,
    }
    if plan.count:
        numbers |= {"then_count": plan.count, "then_n_samples": sizes[plan.size]}
    trials = tuple((names[i], sizes[s]) for i, s in plan.cells)
    return replace(event, trials=trials, numbers=numbers)
