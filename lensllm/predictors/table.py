"""The candidates' measured losses as matrices, with gaps where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from lensllm.core.measures import LOSS, Measure


class Named(Protocol):
    """The fields of a candidate that a table needs."""

    @property
    def name(self) -> str:
        """Its name in curves."""
        ...

    @property
    def family(self) -> str:
        """Its family; empty where it is not known."""
        ...

    @property
    def base_model(self) -> str:
        """The model that it is an arm of; its name if that has no other."""
        ...


def has_arms(candidates: Sequence[Named]) -> bool:
    """Whether some of the candidates are arms of one model, fine-tuned in different ways."""
    return len({item.base_model for item in candidates}) < len(candidates)


@dataclass(frozen=True, eq=False)
class LossTable:
    """Losses of several candidates on one task.

    Attributes:
        models: Names of the candidates.
        families: Their families; an empty one means that the family is not known. If a model has
            several arms, they are the families, see `has_arms`.
        sizes: Sizes D > 0, ascending, shape (n_sizes,).
        log_loss: log L, L the mean over the runs of a size, shape (n_models, n_sizes); `nan` where
            no run was completed.
        n_runs: Completed runs (seeds) of each size, same shape.
        error: Known standard error of each log loss over test examples, same shape; 0 where it is
            not known.
    """

    models: tuple[str, ...]
    families: tuple[str, ...]
    sizes: np.ndarray
    log_loss: np.ndarray
    n_runs: np.ndarray
    error: np.ndarray

    @classmethod
    def from_curves(
        cls, candidates: Sequence[Named], curves: pd.DataFrame, measure: Measure = LOSS
    ) -> LossTable:
        """The table of a task; losses that are not finite and positive, and D = 0, are left out.

        Args:
            candidates: The candidates, all of which get a row, in this order.
            curves: Tidy table of curves of one data set. Its column `measure.error_column`, where
                it has one, is the standard error over test examples.
            measure: Which loss, or the measure whose errors are the losses (`Measure.errors`).
        """
        position = {item.name: i for i, item in enumerate(candidates)}
        loss = measure.errors(curves).to_numpy(dtype=float)
        size = curves["n_samples"].to_numpy(dtype=float)
        row = curves["model"].map(position).to_numpy(dtype=float)
        used = np.isfinite(loss) & (loss > 0) & (size > 0) & np.isfinite(row)
        rows, loss = row[used].astype(int), loss[used]
        sizes, columns = np.unique(size[used], return_inverse=True)
        shape = (len(candidates), len(sizes))
        n_runs, total, error = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        np.add.at(n_runs, (rows, columns), 1.0)
        np.add.at(total, (rows, columns), loss)
        known = measure.standard_errors(curves).to_numpy(dtype=float)[used] / loss
        np.maximum.at(error, (rows, columns), np.where(np.isfinite(known), known, 0.0))
        seen = n_runs > 0
        mean = np.where(seen, total, 1.0) / np.where(seen, n_runs, 1.0)
        return cls(
            tuple(position),
            tuple(item.base_model if has_arms(candidates) else item.family for item in candidates),
            sizes,
            np.where(seen, np.log(mean), np.nan),
            n_runs,
            error,
        )

    @property
    def seen(self) -> np.ndarray:
        """Which points were measured, shape (n_models, n_sizes)."""
        return np.isfinite(self.log_loss)

    @property
    def last(self) -> np.ndarray:
        """Largest size of each candidate, shape (n_models,); 0 where there is none."""
        return np.where(self.seen, self.sizes, 0.0).max(axis=1, initial=0.0)

    @property
    def family_index(self) -> np.ndarray:
        """Position of each candidate's family; one without a family is its own, (n_models,)."""
        pairs = zip(self.models, self.families, strict=True)
        keys = [family or f"\0{model}" for model, family in pairs]
        return np.unique(keys, return_inverse=True)[1].reshape(-1)

    def measured(self) -> LossTable:
        """The candidates that have a point."""
        return self.take(np.flatnonzero(self.seen.any(axis=1)))

    def until(self, size: float) -> LossTable:
        """The points with D ≤ `size`; candidates without one keep an empty row."""
        return self.at(self.sizes <= size)

    def take(self, rows: np.ndarray) -> LossTable:
        """Some of the candidates, by position."""
        return replace(
            self,
            models=tuple(self.models[i] for i in rows),
            families=tuple(self.families[i] for i in rows),
            log_loss=self.log_loss[rows],
            n_runs=self.n_runs[rows],
            error=self.error[rows],
        )

    def at(self, columns: np.ndarray) -> LossTable:
        """Some of the sizes, by a mask or positions."""
        return replace(
            self,
            sizes=self.sizes[columns],
            log_loss=self.log_loss[:, columns],
            n_runs=self.n_runs[:, columns],
            error=self.error[:, columns],
        )
