"""Exact inference in a tree of Gaussian processes: what all share, families, candidates.

Every curve is a vector on one grid of sizes, z_i = c + f_family(i) + o_i, with independent Gaussian
c, f and o, and is measured at some of the sizes. Sums over candidates and families replace one
large covariance matrix: all algebra is on matrices as large as the grid, for any number of
candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Tree:
    """The tree, for P alternative sets of covariances at once.

    Attributes:
        common: Covariance of c, shape (P, s, s).
        family: Covariance of each f, same shape.
        own: Covariance of each o, same shape.
        precision: 1 / variance of the noise of each measurement, 0 where there is none; shape
            (P, n, s).
        families: Position of each candidate's family, shape (n,).
        alike: Group of each candidate; those of one group have the same precisions, shape (n,).
    """

    common: np.ndarray
    family: np.ndarray
    own: np.ndarray
    precision: np.ndarray
    families: np.ndarray
    alike: np.ndarray

    @cached_property
    def _patterns(self) -> tuple[np.ndarray, np.ndarray]:
        """The first candidate of each pattern of precisions, and each candidate's pattern."""
        return np.unique(self.alike, return_index=True, return_inverse=True)[1:]

    @cached_property
    def _leaves(self) -> tuple[np.ndarray, np.ndarray]:
        """B = (K_o + N)^-1 of each pattern, (P, k, s, s), and log det(K_o + N) without N."""
        first, _ = self._patterns
        root = np.sqrt(self.precision[:, first])
        inner = root[..., :, None] * self.own[:, None] * root[..., None, :]
        inner += np.eye(inner.shape[-1])
        chol = np.linalg.cholesky(inner)
        log_det = 2 * np.log(np.diagonal(chol, axis1=-2, axis2=-1)).sum(axis=-1)
        inverse = np.linalg.inv(inner)
        return root[..., :, None] * inverse * root[..., None, :], log_det

    @cached_property
    def leaf(self) -> np.ndarray:
        """B_i of each candidate, (P, n, s, s)."""
        return self._leaves[0][:, self._patterns[1]]

    @cached_property
    def membership(self) -> np.ndarray:
        """Which candidate belongs to which family, (n_families, n)."""
        count = int(self.families.max(initial=-1)) + 1
        return (np.arange(count)[:, None] == self.families).astype(float)

    @cached_property
    def _family_precision(self) -> np.ndarray:
        """Q_f = sum of B_i, (P, F, s, s)."""
        patterns, which = self._leaves[0], self._patterns[1]
        counts = np.zeros((len(self.membership), patterns.shape[1]))
        np.add.at(counts, (self.families, which), 1.0)
        return np.einsum("fk,pkst->pfst", counts, patterns, optimize=True)

    @cached_property
    def _family_solve(self) -> np.ndarray:
        """(I + Q_f K_f)^-1, (P, F, s, s)."""
        q = self._family_precision
        return np.linalg.inv(np.eye(q.shape[-1]) + q @ self.family[:, None])

    @cached_property
    def _root(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision of what is known of c, and (I + Q K_c)^-1; both (P, s, s)."""
        q = (self._family_solve @ self._family_precision).sum(axis=1)
        return q, np.linalg.inv(np.eye(q.shape[-1]) + q @ self.common)

    def log_det(self) -> np.ndarray:
        """Log determinant of the covariance of all measurements, (P,)."""
        counts = np.bincount(self._patterns[1], minlength=len(self._patterns[0]))
        noise = -np.log(np.where(self.precision > 0, self.precision, 1.0)).sum(axis=(1, 2))
        leaves = self._leaves[1] @ counts
        families = -np.linalg.slogdet(self._family_solve)[1].sum(axis=1)
        return noise + leaves + families - np.linalg.slogdet(self._root[1])[1]

    def news(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision-weighted measurements at each level of the tree: B y, and its sums.

        Args:
            values: Measurements, less their expectation, shape (P, n, s, m).

        Returns:
            Of candidates (P, n, s, m), of families (P, F, s, m), of all (P, s, m).
        """
        leaf = self.leaf @ values
        family = np.einsum("fn,pnsm->pfsm", self.membership, leaf, optimize=True)
        return leaf, family, (self._family_solve @ family).sum(axis=1)

    def quadratic(self, values: np.ndarray) -> np.ndarray:
        """Y' K^-1 y' for all pairs of m vectors of measurements, (P, m, m)."""
        leaf, family, root = self.news(values)
        own = np.einsum("pnsm,pnsk->pmk", values, leaf, optimize=True)
        middle = self.family[:, None] @ (self._family_solve @ family)
        top = self.common @ (self._root[1] @ root)
        return (
            own
            - np.einsum("pfsm,pfsk->pmk", family, middle, optimize=True)
            - np.einsum("psm,psk->pmk", root, top, optimize=True)
        )

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """C (P, s, s); W_f and J_f (P, F, s, s); H_i (P, k, s, s) by pattern."""
        eye = np.eye(self.common.shape[-1])
        c = self.common @ self._root[1]
        w = self.family[:, None] @ self._family_solve
        j = eye - w @ self._family_precision
        return c, w, j, eye - self.own[:, None] @ self._leaves[0]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Posterior means of the curves on the grid, (P, n, s, m)."""
        leaf, family, root = self.news(values)
        c, w, j, h = self._levels
        above = w @ family + j @ (c @ root)[:, None]
        return self.own[:, None] @ leaf + h[:, self._patterns[1]] @ above[:, self.families]

    def factors(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior covariance of curves at some positions of the grid, as sums over the tree.

        cov(z_i, z_j) = 1{i = j} V_i + 1{same family} U_i U_j' + T_i T_j'.

        Args:
            at: Positions on the grid, shape (t,).

        Returns:
            V (P, n, t, t), U and T (P, n, t, s).
        """
        c, w, j, h = self._levels
        which = self._patterns[1]
        own = (h @ self.own[:, None])[:, :, at][..., at]
        rows = h[:, :, at]
        u = rows[:, which] @ root_of(w)[:, self.families]
        t = rows[:, which] @ (j @ root_of(c)[:, None])[:, self.families]
        return own[:, which], u, t


def root_of(matrix: np.ndarray) -> np.ndarray:
    """A square root R with R R' = the symmetric positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
    return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
