"""How finely a test set tells candidates apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The standard error of a difference should be at most this share of what is to be told apart.
ENOUGH = 0.5
# Candidates that differ by less than this share of their loss need not be told apart.
CLOSE = 0.01


@dataclass(frozen=True)
class Difference:
    """By how much a candidate's measured loss is above that of the choice.

    Attributes:
        model: The candidate.
        n_samples: The largest size D at which both were measured.
        difference: Its loss less the choice's, in nats.
        standard_error: Of the difference, over the same test examples.
    """

    model: str
    n_samples: int
    difference: float
    standard_error: float

    @property
    def z(self) -> float:
        """The difference in standard errors; `nan` where there is none."""
        return self.difference / self.standard_error if self.standard_error > 0 else math.nan


@dataclass(frozen=True)
class Evidence:
    """How finely the test set tells the candidates apart.

    Attributes:
        n_examples: Test examples.
        standard_error: Of the difference at D_full between the choice and the second, in nats; it
            is taken to be the same share of the loss as at the largest size measured of both.
        apart: What is to be told apart: that difference as it is predicted, or `CLOSE` of the loss
            where it is smaller; `nan` where no losses are predicted.
        n_enough: Test examples with which the standard error would be `ENOUGH` of that.
        differences: To the contenders, or to the second of the ranking.
    """

    n_examples: int
    standard_error: float
    apart: float
    n_enough: float
    differences: tuple[Difference, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """That there are too few test examples, where that is so."""
        if not self.n_enough > self.n_examples:
            return ()
        return (
            f"the {self.n_examples} test examples tell the first two apart with a standard error "
            f"of {self.standard_error:.2g} nats, more than half of the {self.apart:.2g} that is to "
            f"be told; about {self.n_enough:.2g} test examples would be enough",
        )
