"""What happens in a campaign, as data; `lensllm.reports.words` has the words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Kinds that a campaign adds to those of its selector.
LEFT_OUT = "left_out"  # `model` cannot be run: `message`
KNOWN = "known"  # `model` at `n_samples` was paid for before
PREPARED = "prepared"  # `value` FLOPs before the first trial
RAN = (
    "ran"  # `model` at `n_samples`: status `reason`, measured `value`, or why it failed: `message`
)
SET_ASIDE = "set_aside"  # `model` failed too often: `message`
OUT_OF_TIME = "out_of_time"  # no trial fits any more: `value` is left, in units of `message`
RESUMED = "resumed"  # `model` was stopped, and now gets another trial
CHOSEN_OTHERWISE = "chosen_otherwise"  # `model` is first if ranked by the measure `reason`
# Kinds that selectors give.
STOPPED = "stopped"  # `model`, after `n_samples`, gets no more trials: `reason`, P(best) `value`
RANKED_BY = "ranked_by"  # basis of the ranking: `reason`


@dataclass(frozen=True)
class Event:
    """One event of a campaign: a decision, a result, or the basis of the ranking.

    A selector may define its own kinds; reports show their names and numbers.

    Attributes:
        kind: The kind of event, such as `ran`.
        model: The candidate it is about; empty for none.
        n_samples: The size D it is about.
        value: Its main number, in the unit of the kind.
        reason: The reason, as a code such as `price`.
        message: The text of an error or a warning.
        trials: The (candidate, D) pairs it is about.
        numbers: Further numbers by name.
        error_code: The error in `message` as a code, see `lensllm.core.trials.ErrorCode`.
    """

    kind: str
    model: str = ""
    n_samples: int | None = None
    value: float | None = None
    reason: str = ""
    message: str = ""
    trials: tuple[tuple[str, int], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    error_code: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without empty fields; numbers that are not finite become null."""
        record: dict[str, Any] = {"kind": self.kind, "model": self.model}
        if self.n_samples is not None:
            record["n_samples"] = int(self.n_samples)
        if self.value is not None:
            record["value"] = _finite(self.value)
        record |= {"reason": self.reason, "message": self.message}
        record["error_code"] = self.error_code
        record["trials"] = [[model, int(n)] for model, n in self.trials]
        record["numbers"] = {name: _finite(value) for name, value in self.numbers.items()}
        return {name: value for name, value in record.items() if value not in ("", [], {})}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Event:
        """The inverse of `to_json`; numbers that are null become `nan`."""
        values = dict(record)
        values["trials"] = tuple((model, n) for model, n in record.get("trials", ()))
        numbers = record.get("numbers", {})
        values["numbers"] = {name: _number(value) for name, value in numbers.items()}
        if "value" in record:
            values["value"] = _number(record["value"])
        return cls(**values)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
