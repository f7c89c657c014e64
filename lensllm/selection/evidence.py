"""What the test set can tell of the candidates, and what evaluation cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.example_losses import ExampleLosses, difference, log_covariance
from lensllm.selection.base import Selection

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


def examples_by_size(curves: pd.DataFrame) -> dict[str, dict[int, ExampleLosses]]:
    """Losses of test examples, by candidate and size D > 0, where they were kept.

    Args:
        curves: Tidy table of a campaign's trials, with the packed losses as `examples`.
    """
    found: dict[str, dict[int, ExampleLosses]] = {}
    if "examples" not in curves:
        return found
    rows = curves[(curves["n_samples"] > 0) & np.isfinite(curves["test_loss"].astype(float))]
    for model, n_samples, record in zip(
        rows["model"], rows["n_samples"], rows["examples"], strict=True
    ):
        losses = ExampleLosses.from_json(record)
        if losses is not None and len(losses) > 1 and 0 < losses.loss() < math.inf:
            found.setdefault(str(model), {})[int(n_samples)] = losses
    return found


def covariance_over_examples(models: Sequence[str], curves: pd.DataFrame) -> np.ndarray:
    """Covariance over test examples of the candidates' log losses, each at its largest size.

    Args:
        models: Names of the candidates.
        curves: As for `examples_by_size`.

    Returns:
        Shape (n_models, n_models); 0 for candidates whose losses were not kept, or are of other
        examples than most candidates' (pairs whose target has no token are left out).
    """
    last = {model: by[max(by)] for model, by in examples_by_size(curves).items()}
    covariance = np.zeros((len(models), len(models)))
    usual = Counter(len(last[model]) for model in models if model in last).most_common(1)
    rows = [i for i, m in enumerate(models) if m in last and len(last[m]) == usual[0][0]]
    if rows:
        covariance[np.ix_(rows, rows)] = log_covariance([last[models[i]] for i in rows])
    return covariance


def evidence_of(selection: Selection, curves: pd.DataFrame) -> Evidence | None:
    """What the test set can tell of an answer.

    Args:
        selection: The answer.
        curves: As for `examples_by_size`.

    Returns:
        `None` where losses of examples were not kept, or the choice was compared with nobody.
    """
    best, *others = selection.ranking
    by_size = examples_by_size(curves)
    own = by_size.get(best.model)
    if own is None:
        return None
    pairs = {
        item.model: (found, item.predicted_loss)
        for item in others
        if (found := _difference(best.model, item.model, by_size)) is not None
    }
    if not pairs:
        return None
    second, loss = next(iter(pairs.values()))
    error = second.standard_error / own[second.n_samples].loss() * best.predicted_loss
    apart = max(loss - best.predicted_loss, CLOSE * best.predicted_loss)
    n_examples = len(own[second.n_samples])
    verdict = selection.verdict
    named = [m for m in verdict.contenders if m in pairs] if verdict is not None else []
    return Evidence(
        n_examples,
        error,
        apart,
        n_examples * (error / (ENOUGH * apart)) ** 2,
        tuple(pairs[model][0] for model in named) or (second,),
    )


def _difference(
    best: str, other: str, by_size: Mapping[str, Mapping[int, ExampleLosses]]
) -> Difference | None:
    """A candidate's difference to the choice, where they were measured on the same examples."""
    own, theirs = by_size[best], by_size.get(other, {})
    common = [n for n in own if n in theirs and len(own[n]) == len(theirs[n])]
    if not common:
        return None
    return Difference(other, max(common), *difference(theirs[max(common)], own[max(common)]))


def evaluation_share(curves: pd.DataFrame) -> float:
    """Share of the FLOPs of completed trials that evaluation took; `nan` where it is not known."""
    if "train_flops" not in curves:
        return math.nan
    rows = curves[curves["status"] == "completed"]
    total, train = float(rows["flops"].sum()), float(rows["train_flops"].sum())
    return 1.0 - train / total if total > 0 and train > 0 else math.nan
