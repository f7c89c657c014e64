"""The question (`Task`), what may be spent on it (`Budget`), who decides (`Selector`), the answer.

Every way to select a model is the same loop: `Selector.ask` names the trials to run next, a runner
runs them, and `Selector.rank` turns the curves so far into a `Selection`. A selector sees what was
measured only through the tidy table of curves (`lensllm.curves`) and keeps no state of its own, so
that a campaign can be killed and taken up again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from lensllm.trials import Trial

if TYPE_CHECKING:
    from lensllm.selection.evidence import Evidence


class BudgetTooSmallError(ValueError):
    """The budget does not pay for the first trials that a selector needs."""


class NoCandidateError(RuntimeError):
    """No candidate could be tried; the message has all their reasons."""

    def __init__(self, dataset: str, failures: Mapping[str, str]) -> None:
        super().__init__(dataset, failures)
        self.dataset = dataset
        self.failures = dict(failures)

    def __str__(self) -> str:
        reasons = "; ".join(f"{model}: {reason}" for model, reason in self.failures.items())
        return f"Expected a candidate that can be fine-tuned on {self.dataset}, got none: {reasons}"


@dataclass(frozen=True)
class Candidate:
    """A model that could be fine-tuned.

    Attributes:
        name: Its name in trials and curves.
        n_params: Number of parameters; `nan` where unknown.
        family: Family of models it belongs to.
    """

    name: str
    n_params: float = math.nan
    family: str = ""


@dataclass(frozen=True)
class Task:
    """The question: which candidate will be best after fine-tuning on `n_samples_full`?

    Attributes:
        dataset: Name of the data set.
        candidates: The candidates.
        n_samples_full: Size D_full at which the candidates are compared.
        available: For each candidate, the sizes D < D_full that a trial can have, ascending (0, the
            pre-trained model as it is, included where it can be had).
        costs: The most FLOPs of each trial that can be asked and of each full fine-tuning, by
            (candidate, D).
        seed: Seed of the trials.
        failures: Candidates beside these that could not be tried, with the reason.
        losses_before: Losses of a few test pairs before fine-tuning, of candidates that were looked
            at; no measurement of D = 0, but enough to tell when fine-tuning spoils a model.
    """

    dataset: str
    candidates: tuple[Candidate, ...]
    n_samples_full: int
    available: Mapping[str, tuple[int, ...]]
    costs: Mapping[tuple[str, int], float]
    seed: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    losses_before: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ValueError(f"Expected at least one candidate for {self.dataset!r}, got none")
        names = [candidate.name for candidate in self.candidates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Expected each candidate once, got {twice[0]!r} twice")
        if self.n_samples_full <= 0:
            raise ValueError(f"Expected `n_samples_full` > 0, got {self.n_samples_full}")
        if not self.full_cost > 0:
            raise ValueError(
                f"Expected a cost > 0 of fine-tuning every candidate on {self.n_samples_full} "
                f"samples of {self.dataset!r}, got {self.full_cost:g} FLOPs"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates, in their order."""
        return tuple(candidate.name for candidate in self.candidates)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes that can be had for at least one candidate, ascending."""
        return tuple(sorted({size for sizes in self.available.values() for size in sizes}))

    @property
    def full_cost(self) -> float:
        """FLOPs of fine-tuning every candidate on all of the data."""
        return sum(self.costs[name, self.n_samples_full] for name in self.names)

    def without(self, failures: Mapping[str, str]) -> Task:
        """The same question about the other candidates.

        Raises:
            NoCandidateError: There are no others.
        """
        failures = {**self.failures, **failures}
        left = tuple(candidate for candidate in self.candidates if candidate.name not in failures)
        if not left:
            raise NoCandidateError(self.dataset, failures)
        return replace(self, candidates=left, failures=failures)

    def trial(self, model: str, n_samples: int) -> Trial:
        """The trial of one candidate at one size."""
        return Trial(model, self.dataset, n_samples, self.seed)


@dataclass
class Budget:
    """What a campaign may spend.

    Attributes:
        flops: FLOPs that all trials together may cost; infinite by default.
        max_n_samples: Largest size D_max of a trial, for the protocol of the papers' tables, where
            every D ≤ D_max is given; `None` for no such limit.
        spent: FLOPs charged so far.
    """

    flops: float = math.inf
    max_n_samples: int | None = None
    spent: float = 0.0

    def __post_init__(self) -> None:
        if not self.flops > 0:
            raise ValueError(f"Expected a budget of FLOPs > 0, got {self.flops:g}")

    @property
    def remaining(self) -> float:
        """FLOPs that are left."""
        return self.flops - self.spent

    @property
    def permitted(self) -> str:
        """The sizes above 0 that are permitted, in words."""
        most = self.max_n_samples
        return "n_samples > 0" if most is None else f"0 < n_samples <= {most}"

    def charge(self, flops: float) -> None:
        """Add the cost of a trial to what was spent."""
        self.spent += flops

    def allows(self, n_samples: int) -> bool:
        """Whether a trial of this size is permitted (whatever it costs)."""
        return self.max_n_samples is None or n_samples <= self.max_n_samples


@dataclass(frozen=True)
class RankedModel:
    """One candidate in a ranking.

    Attributes:
        model: Name of the candidate.
        score: What it was ranked by; smaller is better.
        predicted_loss: Predicted test loss at D_full in nats per target token; `nan` where the
            selector predicts no loss.
        lower80: Lower end of the 80 % interval of that loss; `nan` where there is none.
        upper80: Upper end of the same.
        p_best: Probability of being the best candidate at D_full, on text like the test set's;
            `nan` where there is none.
        status: `ranked`, or why it could not be (`no usable trial`, ...); such candidates are last.
    """

    model: str
    score: float
    predicted_loss: float = math.nan
    lower80: float = math.nan
    upper80: float = math.nan
    p_best: float = math.nan
    status: str = "ranked"


@dataclass(frozen=True)
class Verdict:
    """Whether the evidence is enough for a choice.

    Attributes:
        kind: `clear`; `too_close_to_call` where the choice is expected to lose next to nothing
            against the best, whichever that is; or `not_enough_evidence`.
        contenders: The fewest candidates of whom one is the best with 90 %, the likeliest first;
            at least two where the verdict is not `clear`.
        p_contenders: The probability that it is one of them.
        expected_regret: Expected regret of the choice in nats.
        next_trial: Candidate and size of the trial that is worth most for its price; `None` where
            none is left.
        next_cost_fraction: Its cost as a share of fine-tuning every candidate in full.
        next_gain: By how much it is expected to lower the regret, in nats.
    """

    kind: str
    contenders: tuple[str, ...]
    p_contenders: float
    expected_regret: float
    next_trial: tuple[str, int] | None = None
    next_cost_fraction: float = math.nan
    next_gain: float = math.nan


@dataclass(frozen=True)
class Selection:
    """The answer of a selector.

    Attributes:
        selector: Name of the selector.
        dataset: Name of the data set.
        n_samples_full: Size at which the candidates are compared.
        ranking: All candidates, the best one first.
        reason: In words, what the choice rests on.
        cost_flops: FLOPs charged to reach it.
        cost_fraction: The same as a share of fine-tuning every candidate in full.
        decisions: In words and in order, what was asked for and why.
        warnings: In words, what the reader of the answer has to know.
        verdict: Whether the evidence is enough, from selectors that can tell.
        evidence: How finely the test set tells candidates apart; `None` where that is not known.
        evaluation_share: Share of the FLOPs of the trials that evaluation took; `nan` where it is
            not known.
    """

    selector: str
    dataset: str
    n_samples_full: int
    ranking: tuple[RankedModel, ...]
    reason: str
    cost_flops: float = 0.0
    cost_fraction: float = 0.0
    decisions: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    evaluation_share: float = math.nan

    @property
    def best(self) -> RankedModel:
        """The candidate to fine-tune."""
        return self.ranking[0]


@dataclass(frozen=True)
class Decision:
    """What a selector asks for next, and why.

    Attributes:
        trials: The trials to run; none when there is nothing more to learn or to spend.
        reasons: In words, why these, or why no more.
        stopped: Candidates that are not worth another trial as things stand, each with the reason
            in words. A candidate can come back when later trials of others change the picture.
    """

    trials: tuple[Trial, ...]
    reasons: tuple[str, ...] = ()
    stopped: Mapping[str, str] = field(default_factory=dict)


class Selector(ABC):
    """Decides which trials to run, and ranks the candidates by what they found.

    A subclass says in `wants` which (candidate, D) pairs it would like to see, given what it has
    seen, and in `rank` how it ranks. Selectors that weigh single trials against their price
    override `decide` instead.
    """

    @property
    def name(self) -> str:
        """Name in tables; by default the class name in snake case."""
        letters = [f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__]
        return "".join(letters).lstrip("_")

    @abstractmethod
    def wants(self, task: Task, curves: pd.DataFrame, budget: Budget) -> list[tuple[str, int]]:
        """(candidate, D) pairs to have next, those already in `curves` included or not."""

    @abstractmethod
    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank all candidates of the task by the curves seen.

        Args:
            task: The question.
            curves: Tidy table of the points seen; losses that are not finite mean a diverged run.

        Returns:
            The ranking without its cost, which the campaign fills in.
        """

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> list[Trial]:
        """The trials to run next; an empty list when there is nothing more to learn or to spend.

        Raises:
            ValueError: The budget does not pay for the first trial.
        """
        seen = set(zip(curves["model"], curves["n_samples"].astype(int), strict=True))
        return [
            task.trial(model, n_samples)
            for model, n_samples in dict.fromkeys(self.wants(task, curves, budget))
            if (model, n_samples) not in seen
        ]

    def decide(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """What `ask` asks for, with the selector's reasons where it gives any.

        Raises:
            ValueError: The budget does not pay for the first trial.
        """
        return Decision(tuple(self.ask(task, curves, budget)))


def affordable_size(task: Task, budget: Budget, *, cumulative: bool, include_zero: bool) -> int:
    """The largest D that the budget allows for all candidates.

    Args:
        task: The question.
        budget: What may be spent in all; what was spent already counts as available.
        cumulative: Whether all smaller sizes are to be paid for as well.
        include_zero: Whether D = 0 may be the answer, and is paid for when `cumulative`.

    Returns:
        D, a size of at least one candidate; a candidate that lacks it counts with what it has.

    Raises:
        ValueError: No size is permitted.
        BudgetTooSmallError: Not even the smallest size is affordable.
    """
    sizes = [n for n in task.sizes if (include_zero or n > 0) and budget.allows(n)]
    if not sizes:
        raise ValueError(
            f"Expected trials with {budget.permitted} for {task.dataset!r}, got those with "
            f"{', '.join(map(str, task.sizes)) or 'none'}: give smaller `sizes` or more data"
        )
    total, best = 0.0, None
    for size in sizes:
        cost = sum(task.costs[model, size] for model in task.names if size in task.available[model])
        total = total + cost if cumulative else cost
        if total <= budget.flops:
            best = size
    if best is None:
        cheapest = sum(
            task.costs[model, sizes[0]] for model in task.names if sizes[0] in task.available[model]
        )
        raise BudgetTooSmallError(
            f"Expected a budget of at least {cheapest:.3g} FLOPs "
            f"({cheapest / task.full_cost:.2%} of fine-tuning every candidate in full), which pays "
            f"for one trial of every candidate at n_samples = {sizes[0]}; got {budget.flops:.3g} "
            f"({budget.flops / task.full_cost:.2%}): raise budget.fraction or drop candidates"
        )
    return best


def order(entries: list[RankedModel]) -> tuple[RankedModel, ...]:
    """Sort by ascending score, the first one on ties; scores that are not finite come last."""
    return tuple(
        sorted(entries, key=lambda entry: entry.score if math.isfinite(entry.score) else math.inf)
    )
