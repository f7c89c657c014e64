"""The measures that trials report and candidates are compared by.

Selectors and predictors work on positive numbers of which smaller is better. For a measure m with
its best possible value b that number is its *error*, e = |b − m|: losses are their own errors
(b = 0), and an accuracy of 0.83 has the error 0.17. An error is at least half of what one test
example is worth, so that its logarithm exists when no example is wrong. What people read is the
measure itself: `Measure.of_error` is the way back, and differences of errors are differences of the
measure.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Direction = Literal["lower", "higher"]
# Test examples that are assumed where their number is not known, for the smallest error.
N_ASSUMED = 1000


@dataclass(frozen=True)
class Measure:
    """A number that a trial has on the test set, by which candidates can be compared.

    Attributes:
        name: Its name in configurations and records.
        label: Its name in sentences.
        unit: Its unit in words; empty where it has none.
        column: The column of a table of curves that holds it.
        error_column: The same for its standard error over test examples.
        per: What it is normalised by.
        bound: Its best possible value.
        direction: Whether `lower` or `higher` values are better.
    """

    name: str
    label: str
    unit: str
    column: str
    error_column: str
    per: Literal["token", "byte", "example"]
    bound: float = 0.0
    direction: Direction = "lower"

    @property
    def is_loss(self) -> bool:
        """Whether it is a cross-entropy."""
        return self.per != "example"

    @property
    def count_column(self) -> str:
        """The column with the number of test examples that it was measured on."""
        return f"{self.name}_n"

    @property
    def scores_column(self) -> str:
        """The column with its packed values of single test examples."""
        return f"{self.name}_scores"

    @property
    def difference_unit(self) -> str:
        """The unit of differences and regrets, in words."""
        return "nats" if self.is_loss else f"in {self.label}"

    @property
    def headings(self) -> dict[str, str]:
        """What columns of predicted and measured losses are called in a table of its values.

        Example:
            >>> measure_named("accuracy").headings["predicted_loss"]
            'predicted_accuracy'
        """
        names = ("predicted_loss", "largest_loss", "full_loss")
        return {} if self.is_loss else {name: name.replace("loss", self.name) for name in names}

    @property
    def with_unit(self) -> str:
        """Its name with its unit, for axes."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def superlative(self) -> str:
        """Which value is the best one, in words."""
        return "smallest" if self.direction == "lower" else "largest"

    def worth(self, n_examples: float = math.nan) -> float:
        """How much one test example can change the measure; 0 for losses.

        Args:
            n_examples: Test examples; `N_ASSUMED` where it is `nan`.
        """
        n = n_examples if n_examples > 0 else N_ASSUMED
        return 0.0 if self.is_loss else (abs(self.bound) or 1.0) / n

    def error(self, value: float, n_examples: float = math.nan) -> float:
        """The error of a value: positive, and smaller is better.

        Args:
            value: A value of the measure.
            n_examples: Test examples that it is over; `nan` if unknown.

        Example:
            >>> round(measure_named("accuracy").error(0.83, 100), 3)
            0.17
            >>> measure_named("accuracy").error(1.0, 100)
            0.005
        """
        if self.is_loss or not math.isfinite(value):
            return value
        return max(abs(self.bound - value), 0.5 * self.worth(n_examples))

    def of_error(self, error: float) -> float:
        """The value with this error: never beyond the bound, and never below 0 if that is above.

        Example:
            >>> measure_named("accuracy").of_error(0.25), measure_named("accuracy").of_error(1.5)
            (0.75, 0.0)
        """
        if self.direction == "lower":
            return self.bound + error
        value = self.bound - error
        return max(value, 0.0) if self.bound > 0 else value

    def errors(self, curves: pd.DataFrame) -> pd.Series:
        """The errors of all rows of a table of curves; `nan` where there is no value."""
        if self.column not in curves:
            return pd.Series(np.nan, index=curves.index, dtype=float)
        values = curves[self.column].astype(float)
        if self.is_loss:
            return values
        return pd.Series(
            [self.error(v, n) for v, n in zip(values, self._counts(curves), strict=True)],
            index=curves.index,
            dtype=float,
        )

    def standard_errors(self, curves: pd.DataFrame) -> pd.Series:
        """Their standard errors over test examples; `nan` where they are not known.

        That of a bounded measure is at least √½ of what one example is worth: with no example
        wrong, the spread of the scores is 0 and says nothing.
        """
        if self.error_column not in curves:
            return pd.Series(np.nan, index=curves.index, dtype=float)
        found = curves[self.error_column].astype(float)
        if self.is_loss:
            return found
        least = np.sqrt(0.5) * np.array([self.worth(n) for n in self._counts(curves)])
        return found.clip(lower=pd.Series(least, index=curves.index))

    def _counts(self, curves: pd.DataFrame) -> pd.Series:
        if self.count_column in curves:
            return curves[self.count_column].astype(float)
        return pd.Series(np.nan, index=curves.index, dtype=float)

    def check(self, value: float) -> None:
        """Raise an error for a value that the measure cannot have.

        Raises:
            ValueError: It is not finite or beyond the bound.
        """
        beyond = value < self.bound if self.direction == "lower" else value > self.bound
        if not math.isfinite(value) or beyond:
            sign = ">=" if self.direction == "lower" else "<="
            raise ValueError(
                f"Expected a finite {self.name} {sign} {self.bound:g}, got {value!r}: give the "
                "measure its best possible value, measure={name: ..., bound: ..., direction: ...}"
            )

    def best_of(self, values: Mapping[str, float]) -> str:
        """The name with the best value."""
        return min(values, key=lambda name: self.error(values[name]))

    def words(self, value: float, digits: int = 4) -> str:
        """A value with its unit."""
        return f"{value:.{digits}f} {self.unit}".rstrip()

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


def _score(name: str, label: str, bound: float = 1.0, direction: Direction = "higher") -> Measure:
    """A measure of the model's answers, with its columns."""
    return Measure(name, label, "", name, f"{name}_se", "example", bound, direction)


LOSS = Measure("loss", "test loss", "nats per target token", "test_loss", "test_loss_se", "token")
LOSS_PER_BYTE = Measure(
    "loss_per_byte",
    "test loss per byte",
    "nats per byte",
    "test_loss_per_byte",
    "test_loss_per_byte_se",
    "byte",
)
LOSSES = (LOSS, LOSS_PER_BYTE)
MEASURES = {
    measure.name: measure
    for measure in (
        *LOSSES,
        _score("accuracy", "accuracy"),
        _score("exact_match", "exact match"),
        _score("f1", "F1"),
        _score("rouge_l", "ROUGE-L"),
        _score("chrf", "chrF", 100.0),
        _score("bleu", "BLEU", 100.0),
    )
}
# Columns of a table of curves that are something else, so that no measure may have their names.
RESERVED = (
    *("model", "dataset", "n_samples", "seed", "key", "trial", "settings"),
    *("status", "reason", "error_code"),
    *("test_loss", "test_loss_per_byte", "test_loss_se", "test_loss_per_byte_se"),
    *("validation_loss", "n_params", "n_tokens", "n_steps", "best_step", "flops", "train_flops"),
    *(
        "seconds",
        "compute_seconds",
        "peak_memory_bytes",
        "family",
        "cut_inputs",
        "cut_targets",
        "dropped_pairs",
    ),
    *("data", "trace", "examples", "measures", "versions", "finished_at"),
)
_NAME = re.compile(r"[A-Za-z_][\w./@-]*(:[A-Za-z_]\w*)?")


def measure_named(given: str | Mapping[str, Any] | Measure) -> Measure:
    """The measure with a name, or one of one's own.

    Args:
        given: A name of `MEASURES`; `module:function`, whose scores are from 0 to 1 with 1 the
            best; or a mapping with `name`, `bound` (its best possible value; 1 where higher is
            better, else 0) and `direction` (`higher`, the default, or `lower`).

    Raises:
        ValueError: There is no such measure, or a value of the mapping is out of range.

    Example:
        >>> measure_named({"name": "wer", "direction": "lower"}).error(0.3)
        0.3
    """
    if isinstance(given, Measure):
        return given
    if isinstance(given, str):
        if given in MEASURES:
            return MEASURES[given]
        if ":" not in given:
            near = difflib.get_close_matches(given, MEASURES, n=1)
            hint = f": did you mean {near[0]}?" if near else ", or module:function"
            raise ValueError(
                f"Expected `measure` to be one of {', '.join(MEASURES)}, got {given!r}{hint}"
            )
        given = {"name": given}
    return _own(dict(given))


def recorded_measure(record: Mapping[str, Any]) -> Measure:
    """The measure of a `selection.json`; older ones have its name alone.

    Raises:
        ValueError: There is no such measure.
    """
    name = record["measure"]
    if name in MEASURES or "bound" not in record:
        return measure_named(name)
    return measure_named({key: record[key] for key in ("bound", "direction")} | {"name": name})


def _own(given: Mapping[str, Any]) -> Measure:
    """A measure by its name, bound and direction."""
    unknown = set(given) - {"name", "bound", "direction"}
    name, direction = given.get("name"), given.get("direction", "higher")
    if unknown or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"Expected a measure with a name, and perhaps bound and direction, got {dict(given)}"
        )
    if name in MEASURES and set(given) == {"name"}:
        return MEASURES[name]
    if name in RESERVED or name in {measure.name for measure in LOSSES}:
        raise ValueError(f"Expected another name for a measure than {name!r}, which is taken")
    if direction not in ("lower", "higher"):
        raise ValueError(f"Expected the direction lower or higher of {name}, got {direction!r}")
    bound = given.get("bound")
    bound = (1.0 if direction == "higher" else 0.0) if bound is None else bound
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
        raise ValueError(f"Expected a finite number as the bound of {name}, got {bound!r}")
    return _score(name, name.rpartition(":")[2], float(bound), direction)
