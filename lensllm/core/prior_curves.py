"""Curves of earlier tasks, with a cache of what was computed from them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lensllm.core.curves import read_curves

T = TypeVar("T")


class PriorCurves:
    """Recorded curves of earlier tasks with some of the candidates.

    What selectors and predictors compute from these curves is computed once and cached here.

    Args:
        curves: Tidy table of curves (see `lensllm.core.curves`); every data set is a separate
            task.
    """

    def __init__(self, curves: pd.DataFrame) -> None:
        self.curves = curves
        self._computed: dict[Hashable, Any] = {}

    @classmethod
    def read(cls, path: str | Path) -> PriorCurves:
        """Read them from a tidy CSV, a wide CSV, a folder of wide CSVs, or a trial store.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            ValueError: The path holds no curves, or bad values.
        """
        return cls(read_curves(path, allow_missing=True))

    def but(self, dataset: str) -> pd.DataFrame:
        """The curves of all data sets except the task's own."""
        return self.curves[self.curves["dataset"] != dataset]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The cached value of a key, computed on first use."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]
