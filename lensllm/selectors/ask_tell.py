"""Ask and tell: a campaign whose trials are run by somebody else's program."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import pandas as pd

from lensllm.core.amounts import read_amount
from lensllm.core.measures import LOSS, Measure, measure_named
from lensllm.core.protocols import Executor, Runner
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Candidate, NoCandidateError, Task, size_ladder
from lensllm.core.trials import (
    MAX_LOSS,
    MeasureValue,
    Status,
    Trial,
    TrialResult,
    digest_of,
    results_table,
)
from lensllm.selectors.adaptive import Adaptive
from lensllm.selectors.base import Decision, Selector
from lensllm.selectors.campaign import run_campaign
from lensllm.system.atomic import check_writable, write_whole
from lensllm.system.claims import POLL_SECONDS, Claims

FORMAT_VERSION = 1
_WAY = "remove the file, and its trial is asked for again"

Cost = Callable[[str, int], float]


class Study:
    """Selects the candidate to fine-tune when the training loop is your own.

    `ask` returns the next trial, `tell` takes its loss or another measure. The results told so far
    determine the next trials: a round of trials is chosen only when the previous one is complete,
    so neither the number of workers that share the folder nor the order of their results matters.

    Args:
        candidates: Names, or `Candidate` objects, whose families and numbers of parameters help.
        n_samples_full: Size D_full of the data on which the chosen candidate will be fine-tuned.
        budget: What all trials may cost, in the unit of `costs`, as in 3600, `"1h"` or `"5 USD"`;
            or a share of fine-tuning every candidate on all of the data, as in `"10%"`. Costs in a
            unit of time are seconds.
        sizes: Sizes D that trials may have; doublings up to half of `n_samples_full` by default.
        costs: The cost of a trial of (model, D), in FLOPs, seconds or money. `None`: it is learned
            from the costs given to `tell`, and until then assumed proportional to D and parameters.
        folder: Where the study is kept; several workers may open it, and a killed one can resume.
            `None` keeps it for the life of this object.
        measure: What `tell` is told: `loss`, or another measure with its best possible value and
            direction, such as `accuracy` or `{"name": "wer", "direction": "lower"}` (see
            `lensllm.core.measures.measure_named`).
        selector: The selector; `Adaptive` by default.
        max_failures: Failed or diverged trials after which a candidate is excluded.
        seed: Seed that the trials carry.

    Raises:
        ValueError: An argument is out of range, or the folder has another study.

    Example:
        >>> study = Study(["a", "b"], n_samples_full=3200, budget="20%")
        >>> while (trial := study.ask()) is not None:
        ...     loss = {"a": 2.0, "b": 1.0}[trial.model] + 5 * trial.n_samples**-0.5
        ...     study.tell(trial, loss)
        >>> study.best
        'b'
    """

    def __init__(
        self,
        candidates: Sequence[str | Candidate],
        n_samples_full: int,
        budget: float | str,
        *,
        sizes: Sequence[int] | None = None,
        costs: Cost | None = None,
        folder: str | Path | None = None,
        measure: str | Mapping[str, Any] | Measure = "loss",
        selector: Selector | None = None,
        max_failures: int = 2,
        seed: int = 0,
    ) -> None:
        amount = read_amount(budget, "the budget")
        self._share = amount.value if amount.unit == "share" else None
        self._amount = amount.value
        named = tuple(Candidate(item) if isinstance(item, str) else item for item in candidates)
        ladder = size_ladder(n_samples_full)[1:] if sizes is None else sorted(set(sizes))
        if not ladder or ladder[0] <= 0 or ladder[-1] >= n_samples_full:
            raise ValueError(
                f"Expected `sizes` above 0 and below n_samples_full = {n_samples_full}, got "
                f"{', '.join(map(str, ladder)) or 'none'}"
            )
        known = {
            (item.name, n): _positive(costs(item.name, n), f"the cost of {item.name} at D = {n}")
            for item in named
            for n in (*ladder, n_samples_full)
            if costs is not None
        }
        self._learns = costs is None
        available = {item.name: tuple(ladder) for item in named}
        guess = known or proportional_costs(named, (*ladder, n_samples_full), {})
        self.task = Task(
            "study",
            named,
            n_samples_full,
            available,
            guess,
            seed,
            measure=measure_named(measure),
            cost_unit="units of cost" if amount.unit in ("", "share") else amount.unit,
        )
        self.max_failures = max_failures
        self._selector = _Remembering(selector or Adaptive(), self)
        self._private = None if folder is not None else tempfile.TemporaryDirectory()
        self.folder = Path(folder if folder is not None else self._private.name)  # type: ignore[union-attr]
        self._told = _ToldTrials(self.folder / "told")
        self._claims = Claims(self.folder / ".claims")
        self._held: dict[tuple[int, str], contextlib.ExitStack] = {}
        self._current: dict[int, Trial] = {}
        self._check_same()

    def ask(self) -> Trial | None:
        """The next trial to run; `None` when there is nothing more to learn or to spend.

        A worker (a thread of a process) has one trial at a time: asking again before telling its
        outcome returns the same trial. While other workers hold all trials of a round, the call
        waits for them; the trial of a killed worker is handed out again.

        Raises:
            BudgetTooSmallError: The budget does not pay for the first trials.
            NoCandidateError: All candidates have failed.
        """
        me = threading.get_ident()
        if me in self._current:
            return self._current[me]
        while True:
            missing = self._missing()
            if not missing:
                return None
            for trial in missing:
                held = contextlib.ExitStack()
                mine = held.enter_context(self._claims.hold(trial.key))
                if mine and self._told.get(trial) is None:  # not told by another worker meanwhile
                    self._current[me], self._held[me, trial.key] = trial, held
                    return trial
                held.close()
            time.sleep(POLL_SECONDS)

    def tell(
        self,
        trial: Trial,
        value: float | None = None,
        *,
        cost: float | None = None,
        status: Status = "completed",
        reason: str = "",
        standard_error: float | None = None,
    ) -> None:
        """Report how a trial ended.

        Args:
            trial: A trial that `ask` returned.
            value: Its test loss, in the same unit for all candidates, or the study's measure.
            cost: Its cost, in the unit of the budget; taken from `costs` by default.
            status: `completed`, `diverged` (the loss became infinite or NaN) or `failed`.
            reason: Why it failed, in one line.
            standard_error: Standard error of the value over test examples, if known.

        Raises:
            TypeError: A value is no number.
            ValueError: The trial was not asked for or was told before, or a value is out of range.
        """
        if status not in get_args(Status):
            raise ValueError(
                f"Expected a status among {', '.join(get_args(Status))}, got {status!r}"
            )
        if (status == "completed") != (value is not None):
            raise ValueError(
                "Expected a value with status='completed' and none with another one, got "
                f"{value!r} with {status!r}"
            )
        measure = self.task.measure
        if value is not None:
            value = _number(value, "the loss" if measure.is_loss else f"the {measure.name}")
        if value is not None and not measure.is_loss:
            measure.check(value)
        elif value is not None and not 0 < value <= MAX_LOSS:
            raise ValueError(
                f"Expected a loss above 0 and at most {MAX_LOSS:g}, got {value!r}: tell "
                "status='diverged' of a trial whose training left the finite numbers"
            )
        if standard_error is not None:
            standard_error = _number(standard_error, "the `standard_error`")
        if standard_error is not None and not 0 <= standard_error < math.inf:
            raise ValueError(f"Expected a finite `standard_error` >= 0, got {standard_error!r}")
        if cost is not None:
            cost = _positive(cost, "`cost`")
        elif self._learns and self._share is None:
            raise ValueError(
                f"Expected the `cost` of {_name(trial)}, since the budget is {self._amount:g} and "
                "`costs` was not given; got none"
            )
        if self._told.get(trial) is not None:
            raise ValueError(f"Expected a trial that is open, got {_name(trial)}, told before")
        if trial not in self._missing():
            raise ValueError(f"Expected a trial that `ask` gave, got {_name(trial)}")
        told = _Told(value, cost, status, reason, standard_error)
        self._told.add(trial, told)
        for (worker, key), held in list(self._held.items()):
            if key == trial.key:
                held.close()
                del self._held[worker, key]
                self._current.pop(worker, None)

    @property
    def selection(self) -> Selection:
        """The answer from the results told so far, with ranking, intervals, P(best) and verdict.

        Raises:
            ValueError: Nothing was told yet.
        """
        curves = self.curves
        if curves.empty:
            raise ValueError("Expected at least one trial that was told, got none: ask and tell")
        try:
            selection, _ = self._campaign()
        except _OpenError:
            selection = self._selector.rank(self.task, curves)
        task = self.priced(self.task, curves)
        spent = self.spent(task, curves)
        share = spent / task.full_cost
        return replace(selection, cost_flops=spent, cost_fraction=share, cost_unit=task.cost_unit)

    @property
    def best(self) -> str:
        """The candidate to fine-tune, given the results told so far.

        Raises:
            NoCandidateError: No candidate has a usable trial.
        """
        ranking = self.selection.ranking
        if ranking[0].status != "ranked":
            raise NoCandidateError("study", {entry.model: entry.status for entry in ranking})
        return ranking[0].model

    @property
    def curves(self) -> pd.DataFrame:
        """The results told so far, as a tidy table (`lensllm.core.curves`)."""
        trials = [self.task.trial(model, n) for model in self.task.names for n in self.task.sizes]
        return results_table([told for t in trials if (told := self.outcome(t)) is not None])

    def leaderboard(self) -> pd.DataFrame:
        """The ranking as a table, the best candidate first."""
        selection = self.selection
        table = pd.DataFrame([asdict(entry) for entry in selection.ranking])
        return table.rename(columns=selection.measure.headings)

    def outcome(self, trial: Trial) -> TrialResult | None:
        """The result of a trial as it was told, its cost in `flops`; `None` if it is still open."""
        told = self._told.get(trial)
        if told is None:
            return None
        candidate = next(item for item in self.task.candidates if item.name == trial.model)
        known = None if self._learns else self.task.costs[trial.model, trial.n_samples]
        cost = known if told.cost is None else told.cost
        value = math.nan if told.value is None else told.value
        error = math.nan if told.standard_error is None else told.standard_error
        is_loss = self.task.measure.is_loss
        measures = {} if is_loss else {self.task.measure.name: MeasureValue(value, error)}
        return TrialResult(
            trial,
            told.status,
            value if is_loss else math.nan,
            test_loss_se=error if is_loss else math.nan,
            measures=measures,
            family=candidate.family,
            flops=math.nan if cost is None else cost,
            reason=told.reason,
        )

    def priced(self, task: Task, curves: pd.DataFrame) -> Task:
        """The task with the costs as estimated from the trials so far."""
        if not self._learns:
            return task
        told = self._costs(curves)
        sizes = sorted({n for _, n in task.costs})
        return replace(task, costs=proportional_costs(task.candidates, sizes, told))

    def spent(self, task: Task, curves: pd.DataFrame) -> float:
        """Total cost of the trials: the told costs, or else the task's."""
        told = self._costs(curves)
        pairs = zip(curves["model"], curves["n_samples"].astype(int), strict=True)
        return sum(told.get(pair, task.costs[pair]) for pair in pairs)

    def allowance(self, task: Task) -> float:
        """The budget in the unit of a task's costs."""
        return self._amount if self._share is None else self._share * task.full_cost

    def is_unpriced(self, curves: pd.DataFrame) -> bool:
        """Whether the budget is in a unit in which no cost has been told yet."""
        return self._learns and self._share is None and not self._costs(curves)

    def _costs(self, curves: pd.DataFrame) -> dict[tuple[str, int], float]:
        """Costs of trials that were told."""
        pairs = zip(curves["model"], curves["n_samples"].astype(int), strict=True)
        told = {pair: self._told.get(self.task.trial(*pair)) for pair in pairs}
        return {pair: o.cost for pair, o in told.items() if o is not None and o.cost is not None}

    def _missing(self) -> tuple[Trial, ...]:
        """Trials of the current round that were not told yet; none when the campaign has ended."""
        try:
            self._campaign()
        except _OpenError as found:
            return found.trials
        return ()

    def _campaign(self) -> tuple[Selection, pd.DataFrame]:
        """Replay the campaign from its start, with the results told so far.

        Raises:
            _OpenError: Trials of a round were not told yet.
        """
        return run_campaign(
            self._selector,
            _Teller(self),
            Budget(),
            executor=_WholeRounds(),
            max_failures=self.max_failures,
        )

    def _check_same(self) -> None:
        """Store the study's settings beside its results, and compare them when it is reopened."""
        check_writable(self.folder)
        task = self.task
        question = {
            "format": FORMAT_VERSION,
            "candidates": sorted(task.names),
            "n_samples_full": task.n_samples_full,
            "sizes": list(task.sizes),
            "seed": task.seed,
        }
        measure = task.measure
        if measure != LOSS:  # studies of losses are older than this entry
            question["measure"] = [measure.name, measure.bound, measure.direction]
        path = self.folder / "study.json"
        if not path.is_file():
            write_whole(path, json.dumps(question, indent=1) + "\n")
            return
        found = _record(path)
        for name, value in {"measure": None, **question}.items():
            if found.get(name) != value:
                raise ValueError(
                    f"Expected the study of {self.folder}, whose {name} is {found.get(name)}, got "
                    f"{value}: give the same, or another folder"
                )


class _OpenError(Exception):
    """Trials of a round were not told yet."""

    def __init__(self, trials: tuple[Trial, ...]) -> None:
        super().__init__(trials)
        self.trials = trials


class _Teller(Runner):
    """A runner that returns the results that were told."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def task(self) -> Task:
        """The selection task."""
        return self._study.task

    def run(self, trial: Trial) -> TrialResult:
        """The result that was told of a trial.

        Raises:
            _OpenError: It was not told yet.
        """
        result = self._study.outcome(trial)
        if result is None:
            raise _OpenError((trial,))
        return result


class _WholeRounds(Executor):
    """An executor that returns the results of a round only when all of its trials were told."""

    n_workers = sys.maxsize

    def next(self) -> tuple[Trial, TrialResult]:
        """The next result of a round.

        Raises:
            _OpenError: Some trials were not told yet; the error carries all of them.
        """
        try:
            return super().next()
        except _OpenError as first:
            others = (trial for runner, trial in self._started if _is_open(runner, trial))
            raise _OpenError((*first.trials, *others)) from None


def _is_open(runner: Runner, trial: Trial) -> bool:
    """Whether a trial was not told yet."""
    try:
        runner.run(trial)
    except _OpenError:
        return True
    return False


class _Remembering(Selector):
    """A selector that uses the study's costs and caches each of its decisions."""

    def __init__(self, selector: Selector, study: Study) -> None:
        self._selector = selector
        self._study = study
        self._decisions: dict[str, Decision] = {}

    @property
    def name(self) -> str:
        return self._selector.name

    def preparation_cost(self, task: Task) -> float:
        return self._selector.preparation_cost(task)

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        key = digest_of([task.names, curves["key"].tolist()])
        if key not in self._decisions:
            self._decisions[key] = self._decide(task, curves)
        return self._decisions[key]

    def _decide(self, task: Task, curves: pd.DataFrame) -> Decision:
        if self._study.is_unpriced(curves):
            smallest = [task.trial(model, task.available[model][0]) for model in task.names]
            return Decision(tuple(smallest))
        task = self._study.priced(task, curves)
        return self._selector.ask(
            task,
            curves,
            Budget(self._study.allowance(task), spent=self._study.spent(task, curves)),
        )

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        return self._selector.rank(task, curves)


@dataclass(frozen=True)
class _Told:
    """The values that were told of a trial."""

    value: float | None
    cost: float | None
    status: Status
    reason: str
    standard_error: float | None = None


class _ToldTrials:
    """A folder with one JSON file per told trial; files in it never change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, _Told] = {}

    def add(self, trial: Trial, told: _Told) -> None:
        record = {"trial": asdict(trial), **asdict(told)}
        write_whole(self._folder / f"{trial.key}.json", json.dumps(record, indent=1) + "\n")

    def get(self, trial: Trial) -> _Told | None:
        if trial.key not in self._seen:
            path = self._folder / f"{trial.key}.json"
            if not path.is_file():
                return None
            record = _record(path)
            try:
                names = ("value", "cost", "status", "reason")
                error = record.get("standard_error")  # older studies have none
                told = _Told(**{name: record[name] for name in names}, standard_error=error)
            except KeyError as error:
                raise ValueError(f"Expected {error} in {path}, found none: {_WAY}") from error
            self._seen[trial.key] = told
        return self._seen[trial.key]


def _record(path: Path) -> dict[str, Any]:
    """The JSON object of a file of a study.

    Raises:
        ValueError: It is not one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path}, got: {error}; {_WAY}") from error
    if not isinstance(record, dict):
        raise ValueError(f"Expected a JSON object in {path}, got {record!r:.100}; {_WAY}")
    return record


def proportional_costs(
    candidates: Sequence[Candidate],
    sizes: Sequence[int],
    told: Mapping[tuple[str, int], float],
) -> dict[tuple[str, int], float]:
    """Costs of trials under the assumption that they are proportional to D.

    A candidate's cost per sample is that of its trials. A candidate without trials gets the median
    of the others' cost per sample and parameter, times its parameters; where numbers of parameters
    are unknown, the median cost per sample. Where no cost was told, that median is replaced by 1.

    Args:
        candidates: The candidates.
        sizes: Sizes D > 0.
        told: Costs of the trials of (model, D) so far.

    Example:
        >>> few, many = Candidate("few", 10.0), Candidate("many", 30.0)
        >>> proportional_costs([few, many], [100], {("few", 50): 1.0})
        {('few', 100): 2.0, ('many', 100): 6.0}
    """
    known = all(math.isfinite(item.n_params) for item in candidates)
    weights = {item.name: item.n_params if known else 1.0 for item in candidates}
    rates = {}
    for name in weights:
        mine = {n: cost for (model, n), cost in told.items() if model == name}
        if mine:
            rates[name] = sum(mine.values()) / sum(mine)
    typical = median(rates[name] / weights[name] for name in rates) if rates else 1.0
    return {
        (name, n): n * rates.get(name, typical * weight)
        for name, weight in weights.items()
        for n in sizes
    }


def _number(value: Any, what: str) -> float:
    """A number, also one of NumPy or PyTorch."""
    if not isinstance(value, str | bool | np.bool_):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    raise TypeError(f"Expected a number as {what}, got {value!r}")


def _positive(value: float, what: str) -> float:
    if not 0 < (number := _number(value, what)) < math.inf:
        raise ValueError(f"Expected {what} to be a finite number above 0, got {value!r}")
    return number


def _name(trial: Trial) -> str:
    return f"{trial.model} at D = {trial.n_samples}"
