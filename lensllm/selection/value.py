"""What measurements are worth: the expected fall in regret of plans of one and of two rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A measurement: (position of the candidate, position of the size).
Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Outlook:
    """Joint Gaussian beliefs about log losses, and what measurements would make of them.

    Attributes:
        mean: Expected log losses at all sizes, D_full last, shape (m, t).
        covariance: Their covariance, shape (m, t, m, t).
        noise: Variance of a measurement, shape (m, t).
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray

    def _learned(self, cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
        """By what expected log losses move for each standard normal piece of news.

        Returns:
            For D_full (m, n_cells), and for everything (m, t, n_cells).
        """
        i, s = (np.array(column) for column in zip(*cells, strict=True))
        own = self.covariance[i, s][:, i, s]
        own[np.diag_indices(len(i))] += self.noise[i, s]
        root = np.linalg.cholesky(own + 1e-12 * np.trace(own) * np.eye(len(own)))
        moves = np.linalg.solve(root, self.covariance[i, s].reshape(len(i), -1))
        moves = np.moveaxis(moves.reshape(len(i), *self.mean.shape), 0, -1)
        return moves[:, -1], moves

    def value(self, cells: Sequence[Cell], news: np.ndarray) -> np.ndarray:
        r"""Fall of the smallest expected log loss at D_full if these cells were measured.

        The knowledge gradient (Frazier, Powell and Dayanik 2009, doi:10.1287/ijoc.1080.0314),
        min_j m_j - E min_j (m + G C^{-1/2} z)_j.

        Args:
            cells: What would be measured, at least one.
            news: Standard normal numbers, shape (n_draws, at least n_cells).

        Returns:
            The fall for each draw, shape (n_draws,); their mean is the value.
        """
        end = self.mean[:, -1]
        moved = end + news[:, : len(cells)] @ self._learned(cells)[0].T
        return end.min() - moved.min(axis=1)

    def value_of_two(
        self,
        cells: Sequence[Cell],
        size: np.ndarray,
        count: int,
        news: np.ndarray,
        later: np.ndarray,
    ) -> np.ndarray:
        """The same for two rounds, the second for those who look best after the first.

        Args:
            cells: The first round.
            size: Position of the size of the second round for each candidate, shape (m,).
            count: Candidates in the second round.
            news: Standard normal numbers, shape (n_draws, at least n_cells).
            later: Of the second round, shape (n_draws, at least `count`).

        Returns:
            The fall for each draw, shape (n_draws,).
        """
        end, moves = self._learned(cells)
        rows = np.arange(len(self.mean))
        first = self.mean[:, -1] + news[:, : len(cells)] @ end.T
        at = moves[rows, size]
        cross = self.covariance[:, -1][:, rows, size] - end @ at.T
        own = self.covariance[rows, size][:, rows, size] - at @ at.T
        left = np.diagonal(self.covariance[:, -1][:, :, -1]) - (end**2).sum(axis=1)
        promise = first - np.sqrt(np.maximum(left, 0.0))
        chosen = np.argpartition(promise, count - 1, axis=1)[:, :count]
        inner = own[chosen[:, :, None], chosen[:, None, :]]
        noise = self.noise[chosen, size[chosen]]
        diagonal = np.arange(count)
        inner[:, diagonal, diagonal] += noise + 1e-12
        root = np.linalg.cholesky(inner)
        weight = np.linalg.solve(np.swapaxes(root, 1, 2), later[:, :count, None])[..., 0]
        second = first + np.einsum("jdc,dc->dj", cross[:, chosen], weight)
        return self.mean[:, -1].min() - second.min(axis=1)
