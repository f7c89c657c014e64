"""The value of measurements: the expected fall in regret of plans of one and of two rounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

# A measurement: (position of the candidate, position of the size).
Cell = tuple[int, int]
# Numbers of candidates, the most promising first, that may be measured together.
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
# Numbers of candidates in a second round.
SECOND_COUNTS = (2, 4, 8, 16)
# Pairs of antithetic draws for comparing all plans, then fresh ones for comparing the finalists.
N_FIRST, N_FRESH, N_FINALISTS = 48, 256, 6


@dataclass(frozen=True)
class Plan:
    """A plan of measurements for the remaining budget.

    Attributes:
        cells: The measurements of the first round.
        cost: Cost of the whole plan.
        count: Candidates in the second round, those that look best after the first; 0 for none.
        size: Position of the size of the second round.
        value: Expected fall of the chosen candidate's log loss at D_full.
        error: Standard error of that value.
    """

    cells: tuple[Cell, ...]
    cost: float
    count: int = 0
    size: int = 0
    value: float = 0.0
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class Outlook:
    """A joint Gaussian posterior of log losses, and how measurements would change it.

    Attributes:
        mean: Expected log losses at all sizes, D_full last, shape (m, t).
        covariance: Their covariance, shape (m, t, m, t).
        noise: Variance of a measurement, shape (m, t).
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray

    def value(self, cells: Sequence[Cell], news: np.ndarray) -> np.ndarray:
        r"""Fall of the smallest expected log loss at D_full if these cells were measured.

        The knowledge gradient (Frazier, Powell and Dayanik 2009, doi:10.1287/ijoc.1080.0314) of a
        set of measurements, with m the expected log losses at D_full, G their covariance with the
        measurements and C that of the measurements: min_j m_j - E_z min_j (m + G C^{-1/2} z)_j.

        Args:
            cells: What would be measured, at least one.
            news: Standard normal numbers z, shape (n_draws, at least n_cells).

        Returns:
            The fall for each draw, shape (n_draws,); their mean is the value.
        """
        end = self.mean[:, -1]
        moved = end + news[:, : len(cells)] @ self._moves(tuple(cells))[:, -1].T
        return end.min() - moved.min(axis=1)

    def value_of_two(
        self, cells: Sequence[Cell], size: int, count: int, news: np.ndarray, later: np.ndarray
    ) -> np.ndarray:
        """The same for two rounds, the second with the candidates that look best after the first.

        Args:
            cells: The measurements of the first round.
            size: Position of the size of the second round.
            count: Candidates in the second round.
            news: Standard normal numbers, shape (n_draws, at least n_cells).
            later: Those of the second round, shape (n_draws, at least `count`).

        Returns:
            The fall for each draw, shape (n_draws,).
        """
        moves = self._moves(tuple(cells))
        end, at = moves[:, -1], moves[:, size]
        first = self.mean[:, -1] + news[:, : len(cells)] @ end.T
        cross = self.covariance[:, -1, :, size] - end @ at.T
        own = self.covariance[:, size, :, size] - at @ at.T
        left = np.diagonal(self.covariance[:, -1, :, -1]) - (end**2).sum(axis=1)
        promise = first - np.sqrt(np.maximum(left, 0.0))
        chosen = np.argpartition(promise, count - 1, axis=1)[:, :count]
        inner = own[chosen[:, :, None], chosen[:, None, :]]
        diagonal = np.arange(count)
        inner[:, diagonal, diagonal] += self.noise[chosen, size] + 1e-12
        root = np.linalg.cholesky(inner)
        weight = np.linalg.solve(np.swapaxes(root, 1, 2), later[:, :count, None])
        second = first + (cross.T[chosen].swapaxes(1, 2) @ weight)[..., 0]
        return self.mean[:, -1].min() - second.min(axis=1)

    def believing(self, cells: Sequence[Cell]) -> Outlook:
        """The outlook after measurements that turn out as expected, such as trials that still run.

        Args:
            cells: The measurements; none changes nothing.
        """
        if not cells:
            return self
        moves = self._moves(tuple(cells))
        known = np.tensordot(moves, moves, axes=(2, 2))
        return replace(self, covariance=self.covariance - known)

    @cached_property
    def _known_moves(self) -> dict[tuple[Cell, ...], np.ndarray]:
        return {}

    def _moves(self, cells: tuple[Cell, ...]) -> np.ndarray:
        """Change of expected log losses per unit of each normal number, shape (m, t, n_cells)."""
        if cells not in self._known_moves:
            self._known_moves[cells] = self._moves_of(cells)
        return self._known_moves[cells]

    def _moves_of(self, cells: tuple[Cell, ...]) -> np.ndarray:
        i, s = (np.array(column) for column in zip(*cells, strict=True))
        rows = self.covariance[i, s]
        own = rows[:, i, s]
        own[np.diag_indices(len(i))] += self.noise[i, s] + 1e-12
        moves = np.linalg.solve(np.linalg.cholesky(own), rows.reshape(len(i), -1))
        return moves.T.reshape(*self.mean.shape, len(i))

    def best_plan(
        self,
        cost: np.ndarray,
        budget: float,
        seed: int,
        rounds: Sequence[Sequence[Cell]] | None = None,
        price: float = 0.0,
    ) -> Plan | None:
        """The plan with the smallest expected loss of the final choice.

        Plans are compared on common random draws. The best few are compared again on fresh draws,
        which removes the upward bias of the largest of many noisy values.

        Args:
            cost: Cost of each measurement, `inf` if it is not available, the most promising
                candidates first, shape (m, t - 1).
            budget: The remaining budget.
            seed: Seed of the draws.
            rounds: First rounds to choose from; by default one size for the most promising
                candidates, for any number of them.
            price: Fall of the log loss that justifies one unit of cost.

        Returns:
            The plan, with its value on fresh draws; `None` when nothing is affordable.
        """
        plans = list(_plans(cost, budget, _rounds(cost) if rounds is None else rounds))
        if not plans:
            return None
        rng = np.random.default_rng(seed)
        first = [_antithetic(rng, N_FIRST, len(cost)) for _ in range(2)]

        def loss(plan: Plan) -> tuple[float, float]:
            return (price * plan.cost - plan.value, plan.cost)

        ranked = sorted((self._valued(plan, *first) for plan in plans), key=loss)
        fresh = [_antithetic(rng, N_FRESH, len(cost)) for _ in range(2)]
        return min((self._valued(plan, *fresh) for plan in ranked[:N_FINALISTS]), key=loss)

    def _valued(self, plan: Plan, news: np.ndarray, later: np.ndarray) -> Plan:
        """The plan with its value on these draws."""
        if plan.count:
            falls = self.value_of_two(plan.cells, plan.size, plan.count, news, later)
        else:
            falls = self.value(plan.cells, news)
        pairs = falls.reshape(2, -1).mean(axis=0)
        error = float(pairs.std() / len(pairs) ** 0.5)
        return replace(plan, value=float(falls.mean()), error=error)


def _antithetic(rng: np.random.Generator, n_pairs: int, width: int) -> np.ndarray:
    half = rng.standard_normal((n_pairs, width))
    return np.concatenate([half, -half])


def _rounds(cost: np.ndarray) -> Iterator[list[Cell]]:
    """One size for the 1, 2, 3, 4, 6, ... or all most promising candidates that have it."""
    for s in range(cost.shape[1]):
        open_to = [(int(i), s) for i in np.flatnonzero(np.isfinite(cost[:, s]))]
        yield from (open_to[:c] for c in COUNTS if c < len(open_to))
        if open_to:
            yield open_to


def _plans(cost: np.ndarray, budget: float, rounds: Iterable[Sequence[Cell]]) -> Iterator[Plan]:
    """Affordable plans of one round, alone or followed by a second one.

    The second round uses the rest of the budget: the largest size that is affordable for its
    candidates. The plans of one round include sub-tuning: all at the largest affordable size.
    """
    allowed = budget * (1 + 1e-9)
    known = np.isfinite(cost)
    for cells in rounds:
        price = float(sum(cost[cell] for cell in cells))
        if price > allowed:
            continue
        yield Plan(tuple(cells), price)
        largest = max(s for _, s in cells)
        for k in [k for k in SECOND_COUNTS if k < len(cells)]:
            likely = slice(max(2 * k, 4))
            share = known[likely].sum(axis=0)
            total = np.where(known[likely], cost[likely], 0.0).sum(axis=0)
            average = total / np.maximum(share, 1) * k
            fit = [
                j
                for j in range(largest + 1, cost.shape[1])
                if share[j] and average[j] + price <= allowed
            ]
            if fit:
                yield Plan(tuple(cells), price + float(average[fit[-1]]), k, fit[-1])
