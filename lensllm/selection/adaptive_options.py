"""What could be measured next, and what of it is worth its price most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensllm.selection.adaptive_value import Beliefs, Cell
from lensllm.selection.base import Task

# Candidates, the likeliest best first, whose trials are weighed one by one as well as in sets.
N_SINGLE = 12


@dataclass(frozen=True)
class Option:
    """Trials at one size that could be had next.

    Attributes:
        cells: What they measure, the likeliest best candidate first.
        share: Their cost as a share of fine-tuning every candidate in full.
        fall: Expected fall in regret in nats.
    """

    cells: tuple[Cell, ...]
    share: float
    fall: float

    @property
    def worth(self) -> float:
        """Expected fall in regret in nats for the cost of fine-tuning every candidate in full."""
        if self.share > 0:
            return self.fall / self.share
        return math.inf if self.fall > 0 else self.fall


def hopeless(p_best: np.ndarray, given_up: float) -> np.ndarray:
    """Which candidates are not worth another trial.

    Those with the smallest P(best) whose sum stays at or below `given_up`.

    Args:
        p_best: Probability of being the best, shape (n_models,).
        given_up: Probability of losing the best candidate that is accepted, in [0, 1).

    Returns:
        Booleans, shape (n_models,).

    Example:
        >>> hopeless(np.array([0.7, 0.01, 0.25, 0.04]), 0.05).tolist()
        [False, True, False, True]
    """
    ascending = np.argsort(p_best, kind="stable")
    out = np.zeros(len(p_best), dtype=bool)
    out[ascending] = np.cumsum(p_best[ascending]) <= given_up + 1e-12
    return out


def best_option(
    task: Task,
    beliefs: Beliefs,
    largest: Mapping[str, int],
    alive: Sequence[int],
    affordable: float,
) -> Option | None:
    """The option with the largest expected fall in regret per FLOP.

    Args:
        task: The question.
        beliefs: What is believed of the curves.
        largest: Largest size that each candidate was tried at or is being tried at.
        alive: Positions of the candidates that are not stopped.
        affordable: FLOPs that are left.

    Returns:
        The option, or `None` when nothing is affordable.
    """
    found = None
    for cells in _sets(task, beliefs, largest, alive):
        cost = sum(task.costs[beliefs.models[m], beliefs.sizes[s]] for m, s in cells)
        if cost > affordable:
            continue
        option = Option(cells, cost / task.full_cost, beliefs.fall_in_regret(cells))
        if found is None or option.worth > found.worth:
            found = option
    return found


def _sets(
    task: Task, beliefs: Beliefs, largest: Mapping[str, int], alive: Sequence[int]
) -> Iterator[tuple[Cell, ...]]:
    """Single trials, and one size of the 2, 3, 4, 6, 8, 12, ... likeliest best candidates.

    One more point seldom changes a choice by itself, but a round of several may: sets are what
    keeps the search from stopping too early. Only sizes above a candidate's largest one count.
    """
    order = sorted(alive, key=lambda m: (-beliefs.p_best[m], m))
    for s, size in enumerate(beliefs.sizes[:-1]):
        fit = [
            (m, s)
            for m in order
            if size in task.available[beliefs.models[m]] and size > largest[beliefs.models[m]]
        ]
        yield from ((cell,) for cell in fit[:N_SINGLE])
        counts = [n for k in range(1, 9) for n in (2**k, 3 * 2 ** (k - 1)) if n < len(fit)]
        yield from (tuple(fit[:n]) for n in counts)
        if len(fit) > 1:
            yield tuple(fit)
