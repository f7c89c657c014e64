"""What a report says about a campaign, from its `selection.json` and `curves.csv` alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lensllm.core.events import (
    KNOWN,
    LEFT_OUT,
    PREPARED,
    RAN,
    RANKED_BY,
    RESUMED,
    SET_ASIDE,
    STOPPED,
    Event,
)
from lensllm.core.measures import Measure, recorded_measure
from lensllm.core.selection import RankedModel
from lensllm.reports.words import event_words, stop_words
from lensllm.system.harmless import csv_name

_NUMBERS = (
    *("n_samples", "seed", "test_loss", "test_loss_per_byte", "n_params", "flops", "seconds"),
    *("peak_memory_bytes", "cut_inputs", "cut_targets", "dropped_pairs"),
)


# What the files of older versions, and of other programs, may lack.
_ABSENT: dict[str, Any] = {
    "selector": "unknown",
    "dataset": "unknown data",
    "sentence": "The file has no sentence.",
    "notes": [],
    "verdict": None,
    "warnings": [],
    "cost_flops": math.nan,
    "cost_fraction": math.nan,
    "cost_unit": "FLOPs",
    "cost_seconds": None,
    "cost_money": None,
    "currency": "",
    "data_needs": [],
    "data": {},
    "command": "",
    "settings": {},
    "versions": {},
}


@dataclass(frozen=True, eq=False)
class Campaign:
    """A finished campaign as its files tell it.

    Attributes:
        record: The content of `selection.json`.
        curves: The points of `curves.csv`; columns that it lacks are `nan`.
    """

    record: Mapping[str, Any]
    curves: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Campaign:
        """Read a folder that a campaign wrote.

        Without `curves.csv` the points are those of `selection.json`.

        Raises:
            FileNotFoundError: It has no `selection.json`.
            ValueError: That is not the result of a campaign.
        """
        path = folder / "selection.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected a campaign's folder with selection.json, found none in {folder}"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"Expected JSON in {path}, got: {error}") from error
        if not isinstance(record, dict) or not record.get("ranking"):
            raise ValueError(f"Expected the result of a campaign in {path}, got no ranking")
        record = {**_ABSENT, **record}
        return cls(record, _read_points(folder / "curves.csv", record))

    @property
    def n_samples_full(self) -> int:
        """D_full, where the candidates are compared."""
        return int(self.record["n_samples_full"])

    @cached_property
    def measure(self) -> Measure:
        """The measure that ranks."""
        return recorded_measure({"measure": "loss", **self.record})

    @cached_property
    def ranking(self) -> list[RankedModel]:
        """The candidates, the best one first."""
        known = {field.name for field in fields(RankedModel)}
        return [
            RankedModel(**{key: _number(value) for key, value in row.items() if key in known})
            for row in self.record["ranking"]
        ]

    @property
    def best(self) -> RankedModel:
        """The chosen candidate."""
        return self.ranking[0]

    @property
    def verdict(self) -> Mapping[str, Any]:
        """The verdict; empty if the selector gave none."""
        return self.record["verdict"] or {}

    @property
    def contenders(self) -> list[str]:
        """The candidates that may be the best one, the chosen one first."""
        named = set(self.verdict.get("contenders") or ())
        first = [self.best.model]
        rows = zip(self.ranking[1:], self.record["ranking"][1:], strict=True)
        return first + [
            entry.model for entry, row in rows if {entry.model, row.get("base_model")} & named
        ]

    @cached_property
    def events(self) -> list[Event]:
        """The events in order; none in files that are older than events."""
        known = {field.name for field in fields(Event)}
        return [
            Event(
                **{
                    **{key: value for key, value in row.items() if key in known},
                    "trials": tuple((model, n) for model, n in row.get("trials", ())),
                }
            )
            for row in self.record.get("events") or ()
        ]

    @property
    def cost_full(self) -> float:
        """Cost of fine-tuning every candidate in full; `nan` if unknown."""
        share = self.record["cost_fraction"]
        return float(self.record["cost_flops"]) / share if share > 0 else math.nan

    def points(self, model: str) -> pd.DataFrame:
        """The points of one candidate, by ascending size."""
        return self.curves[self.curves["model"] == model].sort_values("n_samples")


def _number(value: Any) -> Any:
    """A value of JSON, whose null is a number that is not finite."""
    return math.nan if value is None else value


def _read_points(path: Path, record: Mapping[str, Any]) -> pd.DataFrame:
    if path.is_file():
        table = pd.read_csv(path, dtype={"model": str}, keep_default_na=False, na_values=[""])
        table["model"] = table["model"].map(csv_name)
    else:
        table = pd.DataFrame.from_records(
            [
                {"model": row["model"], **point}
                for row in record["ranking"]
                for point in row.get("observed", ())
            ],
            columns=None if any(row.get("observed") for row in record["ranking"]) else ["model"],
        )
    column = recorded_measure({"measure": "loss", **record}).column
    numbers = list(dict.fromkeys([*_NUMBERS, column]))
    table = table.reindex(columns=[*table.columns, *(n for n in numbers if n not in table)])
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    if "status" not in table:
        table["status"] = "completed"
    return table


@dataclass(frozen=True)
class Step:
    """A step of a campaign: a decision in words, or a trial with its cost.

    Attributes:
        words: What was decided or happened.
        model: The candidate of a trial; empty for a decision.
        n_samples: Its size D.
        outcome: What it measured, or why it failed.
        cost: Its cost in the unit of the campaign; `nan` if unknown.
        share: The same as a share of fine-tuning every candidate in full.
        total: The sum of shares up to this one.
    """

    words: str
    model: str = ""
    n_samples: int = 0
    outcome: str = ""
    cost: float = math.nan
    share: float = math.nan
    total: float = math.nan


def steps(campaign: Campaign) -> list[Step]:
    """The decisions and the trials of a campaign in order."""
    if not campaign.events:
        return [Step(str(words)) for words in campaign.record.get("decisions") or ()]
    costs = campaign.curves.groupby(["model", "n_samples"])["flops"].sum(min_count=1).to_dict()
    full, total, found = campaign.cost_full, 0.0, []
    for event in campaign.events:
        if event.kind in (RANKED_BY, "every_size", KNOWN):
            continue
        words = _words(event, campaign.measure)
        if event.kind == PREPARED and event.value is not None:
            total += event.value / full
        if event.kind != RAN:
            found.append(Step(words))
            continue
        size = event.n_samples or 0
        cost = float(costs.get((event.model, size), math.nan))
        share = cost / full
        total += share if math.isfinite(share) else 0.0
        outcome = words.partition(": ")[2] if event.value is None else f"{event.value:.4f}"
        found.append(Step(words, event.model, size, outcome, cost, share, total))
    return found


def known_points(campaign: Campaign) -> int:
    """Number of points that were paid for before the campaign."""
    return sum(event.kind == KNOWN for event in campaign.events)


def _words(event: Event, measure: Measure) -> str:
    try:
        return event_words(event, measure)
    except (KeyError, TypeError, ValueError):  # a kind whose numbers another version wrote
        return event_words(Event(f"{event.kind} ", event.model, event.n_samples), measure)


def not_tried(campaign: Campaign) -> list[tuple[str, str]]:
    """Candidates that were left out, set aside, stopped or not measured, and why."""
    reasons: dict[str, str] = {}
    for event in campaign.events:
        if event.kind in (LEFT_OUT, SET_ASIDE):
            reasons[event.model] = event.message
        elif event.kind == STOPPED:
            after = "" if event.n_samples is None else f" after D = {event.n_samples}"
            reasons[event.model] = f"no more trials{after}: {stop_words(event)}"
        elif event.kind == RESUMED:
            reasons.pop(event.model, None)
    for entry in campaign.ranking:
        sizes = campaign.points(entry.model)["n_samples"]
        if entry.status != "ranked":
            reasons.setdefault(entry.model, entry.status)
        elif not (sizes > 0).any():
            reasons.setdefault(entry.model, "nothing was measured at D > 0")
    return list(reasons.items())
