"""A campaign as one run of the experiment trackers, beside the runs of its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from lensllm.core.measures import Measure
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.core.trials import TrialResult
from lensllm.finetune.trackers import MakeLogger, Trackers
from lensllm.reports.answer import answer_of
from lensllm.reports.leaderboard import leaderboard
from lensllm.reports.words import event_words

JOB_TYPE = "campaign"
_TRIAL_COLUMNS = ("model", "n_samples", "seed", "status", "flops", "seconds", "validation_loss")


class CampaignTracker:
    """Records a campaign: every trial as it ends, then tables, figures, files and the answer.

    Use it as a context manager: a campaign that ends with an error is recorded as failed.

    Args:
        trackers: The trackers of the run, which has begun.
        measure: The measure by which candidates are compared.
    """

    def __init__(self, trackers: Trackers, measure: Measure) -> None:
        self.trackers = trackers
        self.measure = measure
        self.n_trials = 0
        self.flops = 0.0

    @classmethod
    def begin(
        cls,
        makers: Mapping[str, MakeLogger],
        selector: str,
        task: Task,
        budget: Budget,
        settings: Mapping[str, Any],
        data: Mapping[str, Any],
    ) -> CampaignTracker:
        """Begin the run.

        Args:
            makers: Makers of loggers by name; none for no tracker.
            selector: Name of the selector.
            task: The selection task.
            budget: The budget.
            settings: The campaign's settings, without secrets.
            data: Summary of the data set.

        Raises:
            TrackerError: A tracker could not be started.
        """
        config = {
            "dataset": task.dataset,
            "selector": selector,
            "candidates": list(task.names),
            "n_samples_full": task.n_samples_full,
            "measure": task.measure.name,
            "budget": budget.flops,
            "data": dict(data),
            "settings": dict(settings),
        }
        tags = (task.dataset, selector)
        label = f"campaign-{task.dataset}"
        trackers = Trackers.begin(makers, label, config, JOB_TYPE, tags)
        for name in task.names:
            trackers.keep_best(f"curve/{name}", task.measure.direction)
        return cls(trackers, task.measure)

    def on_result(self, result: TrialResult, budget: Budget) -> None:
        """Record a trial that has ended: its value as a point of its candidate's curve."""
        self.n_trials += 1
        self.flops += result.flops if math.isfinite(result.flops) else 0.0
        value = result.value(self.measure)
        point = {f"curve/{result.trial.model}": value} if math.isfinite(value) else {}
        numbers = {
            "n_samples": float(result.trial.n_samples),
            "cumulative_flops": self.flops,
            "budget_spent": budget.spent / budget.flops,
            **point,
        }
        self.trackers.log_metrics(numbers, self.n_trials)

    def finish(self, selection: Selection, curves: pd.DataFrame, paths: Mapping[str, Path]) -> None:
        """Record the answer and close the run.

        Args:
            selection: The answer.
            curves: Tidy table of the campaign's trials.
            paths: The files written, by kind; pictures are shown, the others are kept.
        """
        table = leaderboard(selection, curves).rename(columns=self.measure.headings)
        self.trackers.log_frame("leaderboard", table)
        self.trackers.log_frame("events", events_table(selection))
        columns = [*_TRIAL_COLUMNS[:4], self.measure.column, *_TRIAL_COLUMNS[4:]]
        # Trials that all failed have no column of a measure that is no loss.
        curves = curves.reindex(columns=list(dict.fromkeys([*curves, *columns])))
        self.trackers.log_frame("trials", curves[columns])
        pictures = {kind: path for kind, path in paths.items() if path.suffix == ".png"}
        for kind, path in pictures.items():
            self.trackers.log_picture(f"figures/{kind}", path)
        files = [path for path in paths.values() if path.suffix in (".json", ".html", ".csv")]
        self.trackers.log_files(f"selection-{selection.dataset}", "selection", files)
        summary = {**answer_summary(selection, len(curves)), **_words(selection, curves)}
        self.trackers.log_summary(summary)
        self.trackers.finish()

    def __enter__(self) -> CampaignTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.trackers.finish(succeeded=False)


def events_table(selection: Selection) -> pd.DataFrame:
    """The events of a campaign in order, as data and in words."""
    rows = [
        {
            "number": number,
            "kind": event.kind,
            "model": event.model,
            "n_samples": event.n_samples,
            "value": event.value,
            "words": event_words(event, selection.measure),
        }
        for number, event in enumerate(selection.events, start=1)
    ]
    columns = ["number", "kind", "model", "n_samples", "value", "words"]
    return pd.DataFrame.from_records(rows, columns=columns)


def _words(selection: Selection, curves: pd.DataFrame) -> dict[str, str]:
    """The answer in words, as it is printed."""
    answer = answer_of(selection, curves)
    words = {"answer": answer.sentence}
    for label, text in answer.notes:
        name = f"answer/{label}"
        words[name] = f"{words[name]}. {text}" if name in words else text  # several warnings
    return words


def answer_summary(selection: Selection, n_trials: int) -> dict[str, Any]:
    """The answer in a few values: the best candidate, how sure that is, and what it cost."""
    best, verdict = selection.best, selection.verdict
    values = {
        "best": best.model if best.status == "ranked" else None,
        "verdict": None if verdict is None else verdict.kind,
        selection.measure.headings.get("predicted_loss", "predicted_loss"): best.predicted_loss,
        "lower80": best.lower80,
        "upper80": best.upper80,
        "p_best": best.p_best,
        "cost": selection.cost_flops,
        "cost_unit": selection.cost_unit,
        "cost_fraction": selection.cost_fraction,
        "n_candidates": len(selection.ranking),
        "n_trials": n_trials,
    }
    known = {key: value for key, value in values.items() if value is not None}
    return {
        key: value
        for key, value in known.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
