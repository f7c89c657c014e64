"""The candidates' measured losses as one matrix, with gaps where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lensllm.core.measures import LOSS, Measure
from lensllm.core.points import losses_by_size
from lensllm.core.task import Candidate


@dataclass(frozen=True, eq=False)
class LossTable:
    """Losses of several candidates on one data set.

    Attributes:
        models: Names of the candidates.
        families: Their families; an empty one means that the family is not known.
        sizes: Sizes D > 0, ascending, shape (n_sizes,).
        log_loss: log L in log nats, shape (n_models, n_sizes); `nan` where there is none.
    """

    models: tuple[str, ...]
    families: tuple[str, ...]
    sizes: np.ndarray
    log_loss: np.ndarray

    @classmethod
    def from_curves(
        cls, candidates: Sequence[Candidate], curves: pd.DataFrame, measure: Measure = LOSS
    ) -> LossTable:
        """The table of those candidates that have a finite loss > 0 at a size D > 0.

        Args:
            candidates: The candidates; their order is kept.
            curves: Tidy table of curves of one data set; several seeds are averaged.
            measure: Which loss.
        """
        losses = losses_by_size(curves, measure)
        found = {
            item.name: {n: x for n, x in losses.get(item.name, {}).items() if n > 0 and x > 0}
            for item in candidates
        }
        sizes = np.array(sorted({n for seen in found.values() for n in seen}), dtype=float)
        kept = [item for item in candidates if found[item.name]]
        table = np.array([[found[item.name].get(int(n), np.nan) for n in sizes] for item in kept])
        return cls(
            tuple(item.name for item in kept),
            tuple(item.family for item in kept),
            sizes,
            np.log(table.reshape(len(kept), len(sizes))),
        )

    @property
    def seen(self) -> np.ndarray:
        """Which points there are, shape (n_models, n_sizes)."""
        return np.isfinite(self.log_loss)

    @property
    def last(self) -> np.ndarray:
        """Largest size of each candidate, shape (n_models,); 0 where there is none."""
        return np.where(self.seen, self.sizes, 0.0).max(axis=1, initial=0.0)

    def until(self, size: float) -> LossTable:
        """The points with D ≤ `size`; candidates without one keep an empty row."""
        kept = self.sizes <= size
        return replace(self, sizes=self.sizes[kept], log_loss=self.log_loss[:, kept])

    def take(self, rows: np.ndarray) -> LossTable:
        """Some of the candidates, by position."""
        return replace(
            self,
            models=tuple(self.models[i] for i in rows),
            families=tuple(self.families[i] for i in rows),
            log_loss=self.log_loss[rows],
        )
