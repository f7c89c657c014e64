"""What a check found: one line for people, the same as data for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "broken"]
MARKS: Mapping[Level, str] = {"ok": "ok", "note": "--", "broken": "!!"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is about, in a few words.
        level: `ok`; `note` for something optional that is absent or scarce; `broken` for something
            that is needed and does not work.
        text: What was found, in one line.
        advice: What to do about it; empty where nothing is wrong.
        numbers: The same as data, in JSON types.
    """

    topic: str
    level: Level
    text: str
    advice: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The finding in one line.

        Example:
            >>> Finding("disk", "note", "1.0 GB free", "free some").line()
            '--  disk: 1.0 GB free; free some'
        """
        return f"{MARKS[self.level]}  {self.topic}: {self.text}" + (
            f"; {self.advice}" if self.advice else ""
        )


def as_record(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings in JSON types, with whether nothing that is needed is broken."""
    is_usable = all(finding.level != "broken" for finding in findings)
    return {"usable": is_usable, "findings": [asdict(finding) for finding in findings]}


def as_table(findings: Sequence[Finding]) -> str:
    """All findings as a table in Markdown.

    Example:
        >>> print(as_table([Finding("disk", "note", "1.0 GB free", "free some")]), end="")
        | | what | found | seconds |
        |---|---|---|---|
        | -- | disk | 1.0 GB free; free some | |
    """
    rows = ["| | what | found | seconds |", "|---|---|---|---|"]
    for finding in findings:
        mark, _, text = finding.line().partition(f"  {finding.topic}: ")
        seconds = finding.numbers.get("seconds")
        took = "" if seconds is None else f"{seconds:.1f} "
        rows.append(f"| {mark} | {finding.topic} | {text.replace('|', '/')} | {took}|")
    return "\n".join(rows) + "\n"
