"""The result of a campaign: its answer, its curves, and the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lensllm.core.selection import Selection
from lensllm.core.task import NoCandidateError
from lensllm.reports.leaderboard import leaderboard, nearly_as_good
from lensllm.reports.selection_report import selection_sentence


@dataclass(frozen=True)
class Result:
    """The result of a campaign.

    Attributes:
        selection: The answer: ranking, intervals, verdict, events and cost.
        curves: Tidy table of the campaign's trials.
        folder: Output folder.
        paths: The files written, by kind; none in the processes of a trial that report nothing.
    """

    selection: Selection
    curves: pd.DataFrame
    folder: Path
    paths: Mapping[str, Path] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Name of the candidate to fine-tune.

        Raises:
            NoCandidateError: No candidate could be ranked; with all reasons.
        """
        best = self.selection.best
        if best.status != "ranked":
            failures = {entry.model: entry.status for entry in self.selection.ranking}
            raise NoCandidateError(self.selection.dataset, failures)
        return best.model

    @property
    def sentence(self) -> str:
        """One sentence: which model to fine-tune, how certain that is, and what it cost."""
        return selection_sentence(self.selection, nearly_as_good(self.selection, self.curves))

    def leaderboard(self) -> pd.DataFrame:
        """One row per candidate; see `lensllm.reports.leaderboard`."""
        return leaderboard(self.selection, self.curves)
