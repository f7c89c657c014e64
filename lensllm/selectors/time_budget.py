"""A budget of wall-clock time, or of money at a price per hour."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lensllm.core.amounts import Amount
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.core.trials import Trial, TrialResult
from lensllm.selectors.campaign import make_budget
from lensllm.selectors.durations import cheapest_trial, is_timed, predicted_seconds

MARGIN = 1.1  # of a budget that is advised, since no two runs take the same time


@dataclass
class TimeBudget(Budget):
    """A limit on the time that passes from the start of a campaign.

    Everything counts: loading, planning, and waiting. The costs of trials are predicted from those
    that have run (`predicted_seconds`), again after each, and no trial is started that is not
    expected to fit. So two campaigns with such a budget need not choose the same trials.

    Attributes:
        n_places: Number of trials that run at the same time; each is charged its share of the time.
        per_second: Price of a second; 1 for a budget in seconds.
        unit: `seconds` or a currency; that of `flops` and `spent`.
        started: When the campaign began, by `time.monotonic`.
        before: Seconds that an interrupted run of the same campaign has spent.
    """

    n_places: int = 1
    per_second: float = 1.0
    unit: str = "seconds"
    started: float = field(default_factory=time.monotonic)
    before: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.charge(0.0)

    @property
    def deadline(self) -> float:
        """When the time is over, in seconds since the epoch, which other processes share."""
        return time.time() + self.seconds_left

    @property
    def seconds(self) -> float:
        """Seconds that were spent."""
        return self.spent / self.per_second

    @property
    def seconds_left(self) -> float:
        """Seconds that are left now."""
        return self.flops / self.per_second - self.before - (time.monotonic() - self.started)

    def charge(self, flops: float) -> None:
        """Bring what was spent up to date; the cost of a trial is the time that has passed."""
        self.spent = self.per_second * (time.monotonic() - self.started + self.before)

    def priced(self, task: Task, results: Sequence[TrialResult]) -> Task:
        """The task with predicted costs in the unit of this budget."""
        factor = self.per_second / self.n_places
        seconds = predicted_seconds(task, results)
        costs = {pair: factor * value for pair, value in seconds.items()}
        return replace(task, costs=costs, cost_unit=self.unit)

    def first_trials(self, task: Task, results: Sequence[TrialResult]) -> tuple[Trial, ...]:
        """The cheapest trial, as long as none was timed.

        Raises:
            ValueError: Trials take no time, since they are looked up.
        """
        if any(map(is_timed, results)):
            return ()
        if any(result.status == "completed" for result in results):
            raise ValueError(
                "Expected trials that take time for a budget in time or money, got recorded ones: "
                "give a share, as in budget=10%, or FLOPs"
            )
        return (cheapest_trial(task),)

    def as_seen(self, task: Task, results: Sequence[TrialResult]) -> Budget:
        """A budget of the time left and of the trials so far at their prices.

        Selectors that plan for the whole budget take what was spent for trials of theirs, while
        here planning and waiting have been spent as well.
        """
        own = sum(task.costs.get(result.trial.point, 0.0) for result in results)
        left = max(self.per_second * self.seconds_left, 0.0)
        pending = {point: task.costs.get(point, 0.0) for point in self.pending}
        return Budget(left + own, spent=own, pending=pending)

    def too_small(self, error: BudgetTooSmallError) -> BudgetTooSmallError:
        """What had passed before a selector could begin, and a budget that is enough."""
        if error.needed is not None:
            enough = _rounded_up(MARGIN * (self.spent + error.needed))
            unit = "s" if self.unit == "seconds" else f" {self.unit}"
            given, gone, first = (f"{x:.2g}{unit}" for x in (self.flops, self.spent, error.needed))
            return BudgetTooSmallError(
                f"Expected a budget of at least {enough}{unit}, got {given}: starting (loading, "
                f"checking the candidates and measuring their speed) took {gone}, and the first "
                f"trials take about another {first}: set budget='{enough}{unit}' or more, or use "
                "smaller `sizes`"
            )
        return BudgetTooSmallError(
            f"{error}; {self.spent:.3g} of the {self.flops:.3g} {self.unit} had passed with "
            "loading, checking the candidates and the trial by which the speed is measured; trials "
            "of smaller `sizes` take less"
        )

    def fits(self, trial: Trial, task: Task) -> bool:
        """Whether a trial that starts now is expected to end in time, where its time is known."""
        is_known = task.cost_unit == self.unit
        return (
            not is_known
            or task.costs[trial.point] * self.n_places <= self.per_second * self.seconds_left
        )


def _rounded_up(amount: float) -> str:
    """At most two digits, never less than the amount."""
    step = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return f"{math.ceil(amount / step) * step:.10g}"


def budget_of(
    amount: Amount,
    task: Task,
    price_per_hour: Amount | None = None,
    n_places: int = 1,
    started: float | None = None,
    before: float = 0.0,
) -> Budget:
    """The budget that an amount stands for.

    Args:
        amount: The amount; a number without a unit is in the unit of the task's costs.
        task: The selection task.
        price_per_hour: Price of this machine (of all its places together) per hour.
        n_places: Number of trials that run at the same time.
        started: When the campaign began, by `time.monotonic`; now by default.
        before: Seconds that an interrupted run of the same campaign has spent.

    Raises:
        ValueError: Money without a price per hour, or in another currency; or FLOPs where trials
            have other costs.
    """
    if amount.unit == "share":
        return make_budget(task, fraction=amount.value)
    if amount.unit == "FLOPs" and task.cost_unit != "FLOPs":
        raise ValueError(
            f"Expected a budget in {task.cost_unit}, the costs of these trials, or a share, time "
            f"or money, got {amount.value:g} FLOPs"
        )
    if amount.unit in ("", "FLOPs"):
        return make_budget(task, flops=amount.value)
    per_second = 1.0
    if amount.is_money:
        if price_per_hour is None:
            raise ValueError(
                f"Expected price_per_hour with a budget in {amount.unit}, got none: give what an "
                f"hour of this machine costs, as in price_per_hour='1.5 {amount.unit}'"
            )
        if price_per_hour.unit != amount.unit:
            raise ValueError(
                f"Expected budget and price_per_hour in one currency, got {amount.unit} and "
                f"{price_per_hour.unit}"
            )
        per_second = price_per_hour.value / 3600.0
    return TimeBudget(
        amount.value,
        n_places=n_places,
        per_second=per_second,
        unit=amount.unit,
        started=time.monotonic() if started is None else started,
        before=before,
    )
