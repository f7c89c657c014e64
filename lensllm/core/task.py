"""The selection task (`Task`) and what may be spent on it (`Budget`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lensllm.core.measures import LOSS, Measure
from lensllm.core.prior_curves import PriorCurves
from lensllm.core.trials import Trial, TrialResult

# First size of the ladder, and the number of sizes below which the ladder starts lower.
BASE_SIZE = 200
MIN_SIZES = 4


class BudgetTooSmallError(ValueError):
    """The budget does not pay for the first trials that a selector needs.

    Attributes:
        needed: What they cost, in the unit of the budget; `None` if no budget would be enough.
    """

    def __init__(self, message: str, needed: float | None = None) -> None:
        super().__init__(message)
        self.needed = needed


class NoCandidateError(ValueError):
    """No candidate could be run; the message gives the reason for each."""

    def __init__(self, dataset: str, failures: Mapping[str, str]) -> None:
        super().__init__(dataset, failures)
        self.dataset = dataset
        self.failures = dict(failures)

    def __str__(self) -> str:
        reasons = "; ".join(f"{model}: {reason}" for model, reason in self.failures.items())
        text = f"Expected a candidate that can be fine-tuned on {self.dataset}, got none: {reasons}"
        diverged = any("diverged at" in reason for reason in self.failures.values())
        return f"{text}: lower optimizer.lr, and look at the data" if diverged else text


@dataclass(frozen=True)
class Candidate:
    """A model that could be fine-tuned, with the settings by which it would be.

    Candidates with the same `base_model` are its *arms*: one model, fine-tuned in different ways.

    Attributes:
        name: Its name in trials and curves.
        n_params: Number of parameters; `nan` if unknown.
        family: Model family that it belongs to.
        base_model: The model that is fine-tuned; by default the name.
        memory_gb: Memory that inference takes, in gigabytes (10⁹ bytes); `nan` if unknown.
        latency_ms: Median time of generating one target, in milliseconds; `nan` if not measured.
    """

    name: str
    n_params: float = math.nan
    family: str = ""
    base_model: str = ""
    memory_gb: float = math.nan
    latency_ms: float = math.nan

    def __post_init__(self) -> None:
        if not self.base_model:
            object.__setattr__(self, "base_model", self.name)


@dataclass(frozen=True)
class Task:
    """The selection task: which candidate will be best after fine-tuning on `n_samples_full`?

    Attributes:
        dataset: Name of the data set.
        candidates: The candidates.
        n_samples_full: Size D_full at which the candidates are compared.
        available: For each candidate, the sizes D < D_full that a trial can have, ascending,
            including 0 (the pre-trained model itself) if it is available.
        costs: Upper bounds on the cost of each possible trial and of each full fine-tuning, by
            (candidate, D).
        seed: Seed of the trials.
        failures: Further candidates that could not be run, with the reason.
        measure: The measure by which candidates are compared.
        losses_before: That measure on a few test pairs before fine-tuning, for candidates that were
            inspected. It does not replace a trial at D = 0, but shows if fine-tuning harms a model.
        prior_curves: Curves of earlier tasks, for selectors and predictors that can use them; rows
            of the task's own data set are ignored.
        cost_unit: The unit of all costs and budgets, in the plural.
        failure_codes: The reasons in `failures` as codes, where known (see
            `lensllm.core.trials.ErrorCode`).
    """

    dataset: str
    candidates: tuple[Candidate, ...]
    n_samples_full: int
    available: Mapping[str, tuple[int, ...]]
    costs: Mapping[tuple[str, int], float]
    seed: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    measure: Measure = LOSS
    losses_before: Mapping[str, float] = field(default_factory=dict)
    prior_curves: PriorCurves | None = field(default=None, compare=False, repr=False)
    cost_unit: str = "FLOPs"
    failure_codes: Mapping[str, str] = field(default_factory=dict)

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
                f"samples of {self.dataset!r}, got {self.full_cost:g} {self.cost_unit}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates, in their order."""
        return tuple(candidate.name for candidate in self.candidates)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes that are available for at least one candidate, ascending."""
        return tuple(sorted({size for sizes in self.available.values() for size in sizes}))

    @property
    def full_cost(self) -> float:
        """The cost of fine-tuning every candidate on all of the data."""
        return sum(self.costs[name, self.n_samples_full] for name in self.names)

    def without(self, failures: Mapping[str, str]) -> Task:
        """The same task without these candidates.

        Raises:
            NoCandidateError: No candidates remain.
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
        pending: Costs reserved for trials that were started and have not ended, by (candidate, D).
    """

    flops: float = math.inf
    max_n_samples: int | None = None
    spent: float = 0.0
    pending: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.flops > 0:
            raise ValueError(f"Expected a budget of FLOPs > 0, got {self.flops:g}")

    @property
    def remaining(self) -> float:
        """FLOPs that are neither spent nor reserved."""
        return self.flops - self.spent - sum(self.pending.values())

    @property
    def permitted(self) -> str:
        """The sizes above 0 that are permitted, in words."""
        most = self.max_n_samples
        return "n_samples > 0" if most is None else f"0 < n_samples <= {most}"

    def charge(self, flops: float) -> None:
        """Add the cost of a trial to what was spent."""
        self.spent += flops

    @property
    def seconds(self) -> float:
        """Seconds that were spent; `nan` for a budget that counts none."""
        return math.nan

    @property
    def seconds_left(self) -> float:
        """Seconds that are left; infinite for a budget that counts none."""
        return math.inf

    def first_trials(self, task: Task, results: Sequence[TrialResult]) -> tuple[Trial, ...]:
        """Trials to run before costs are known in the unit of the budget; none for FLOPs."""
        return ()

    def priced(self, task: Task, results: Sequence[TrialResult]) -> Task:
        """The task with its costs in the unit of the budget, given the results so far."""
        return task

    def as_seen(self, task: Task, results: Sequence[TrialResult]) -> Budget:
        """The budget for a selector: what was spent is the cost of its trials, as priced."""
        return self

    def too_small(self, error: BudgetTooSmallError) -> BudgetTooSmallError:
        """The error of a selector that cannot begin, with what else there is to say."""
        return error

    def fits(self, trial: Trial, task: Task) -> bool:
        """Whether what is left pays for a trial that was asked for and is to start now."""
        return task.costs[trial.point] <= self.remaining * (1.0 + 1e-9)

    def allows(self, n_samples: int) -> bool:
        """Whether a trial of this size is permitted (whatever it costs)."""
        return self.max_n_samples is None or n_samples <= self.max_n_samples


def size_ladder(n_samples_full: int) -> tuple[int, ...]:
    """Sizes that trials can have: 0, then doublings of 200 up to half of `n_samples_full`.

    If that leaves fewer than four sizes above 0, the ladder starts lower: at 100, 50, 25 or 12.

    Args:
        n_samples_full: Size D_full at which candidates are compared.

    Returns:
        Sizes D, ascending.

    Example:
        >>> size_ladder(1000)
        (0, 50, 100, 200, 400)
    """
    sizes = [BASE_SIZE]
    while sizes[-1] * 2 <= n_samples_full // 2:
        sizes.append(sizes[-1] * 2)
    while sizes[0] > 12 and (len(sizes) < MIN_SIZES or sizes[MIN_SIZES - 1] > n_samples_full // 2):
        sizes.insert(0, sizes[0] // 2)
    return (0, *(size for size in sizes if size <= n_samples_full // 2))
