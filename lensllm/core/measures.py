"""The measures that trials report and candidates are compared by, as a small registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Measure:
    """A loss of the test set by which candidates can be compared; smaller is better.

    Attributes:
        name: Its name in configurations and records.
        label: Its name in sentences.
        unit: Its unit in words.
        column: The field of a `TrialResult`, and the column of a table of curves, that holds it.
        error_column: The same for its standard error over test examples.
        per: The unit that it is normalised by.
    """

    name: str
    label: str
    unit: str
    column: str
    error_column: str
    per: Literal["token", "byte"]

    def require(self, curves: pd.DataFrame, source: str) -> None:
        """Raise an error if a table of curves lacks the measure for any point.

        Args:
            curves: Tidy table of curves.
            source: What to call the table in the message.

        Raises:
            ValueError: The column is absent or has a gap.
        """
        if self.column not in curves.columns:
            raise ValueError(
                f"Expected a column {self.column!r} in {source} for measure={self.name}, found none"
            )
        missing = curves[self.column].isna()
        if missing.any():
            row = curves[missing].iloc[0]
            raise ValueError(
                f"Expected `{self.column}` of every point in {source} for measure={self.name}, got "
                f"none of {row['model']!r} at n_samples = {row['n_samples']}"
            )


LOSS = Measure("loss", "test loss", "nats per target token", "test_loss", "test_loss_se", "token")
LOSS_PER_BYTE = Measure(
    "loss_per_byte",
    "test loss per byte",
    "nats per byte",
    "test_loss_per_byte",
    "test_loss_per_byte_se",
    "byte",
)
MEASURES = {measure.name: measure for measure in (LOSS, LOSS_PER_BYTE)}


def measure_named(name: str) -> Measure:
    """The measure with this name.

    Raises:
        ValueError: There is no such measure.
    """
    if name not in MEASURES:
        raise ValueError(f"Expected `measure` to be one of {', '.join(MEASURES)}, got {name!r}")
    return MEASURES[name]
