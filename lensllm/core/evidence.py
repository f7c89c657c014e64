"""How well a test set separates the candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The standard error of a difference should be at most this share of the difference to resolve.
ENOUGH = 0.5
# Candidates that differ by less than this share of their loss need not be separated.
CLOSE = 0.01


@dataclass(frozen=True)
class Difference:
    """How far a candidate's measured loss, or error, is above that of the chosen candidate.

    Attributes:
        model: The candidate.
        n_samples: The largest size D at which both were measured.
        difference: Its loss minus the chosen candidate's, in the unit of the measure.
        standard_error: Standard error of the difference, over the same test examples.
    """

    model: str
    n_samples: int
    difference: float
    standard_error: float

    @property
    def z(self) -> float:
        """The difference in standard errors; `nan` if the standard error is 0 or unknown."""
        return self.difference / self.standard_error if self.standard_error > 0 else math.nan


@dataclass(frozen=True)
class Evidence:
    """How well the test set separates the candidates.

    Attributes:
        n_examples: Number of test examples.
        standard_error: Standard error of the difference at D_full between the chosen candidate and
            the second, in `unit`. Its share of the loss is assumed to be the same as at the largest
            size at which both were measured.
        apart: The difference to resolve: the predicted difference at D_full, or the share `CLOSE`
            of the loss if the difference is smaller; `nan` if no losses are predicted.
        n_enough: Test examples needed for a standard error of `ENOUGH` times `apart`.
        differences: Differences to the contenders, or to the second of the ranking.
        unit: The unit of differences, in words.
    """

    n_examples: int
    standard_error: float
    apart: float
    n_enough: float
    differences: tuple[Difference, ...]
    unit: str = "nats"

    @property
    def warnings(self) -> tuple[str, ...]:
        """A warning if there are too few test examples."""
        if not self.n_enough > self.n_examples:
            return ()
        enough = f"{float(f'{self.n_enough:.2g}'):,.0f}".replace(",", " ")
        return (
            f"the {self.n_examples} test examples can tell differences of about "
            f"{self.standard_error / ENOUGH:.2g} {self.unit}, and of the first two "
            f"{self.apart:.2g} is to be told: about {enough} test examples would be enough",
        )
