"""The result of a campaign: its answer, its curves, and the files that it wrote."""

from __future__ import annotations

import html
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lensllm.core.protocols import Runner
from lensllm.core.selection import Selection, Verdict
from lensllm.core.task import NoCandidateError
from lensllm.reports.answer import Answer, answer_of
from lensllm.reports.leaderboard import leaderboard
from lensllm.reports.selection_figure import selection_figure
from lensllm.system.harmless import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The result of a campaign.

    Attributes:
        selection: The answer: ranking, intervals, verdict, events and cost.
        curves: Tidy table of the campaign's trials.
        folder: Output folder.
        paths: The files written, by kind; none in the processes of a trial that report nothing.
        make_runner: Makes the campaign's runner, by which its winner is fine-tuned.
    """

    selection: Selection
    curves: pd.DataFrame
    folder: Path
    paths: Mapping[str, Path] = field(default_factory=dict)
    make_runner: Callable[[], Runner] | None = field(default=None, repr=False, compare=False)

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
    def verdict(self) -> Verdict | None:
        """Whether the evidence is sufficient; `None` from selectors that do not assess it."""
        return self.selection.verdict

    @property
    def answer(self) -> Answer:
        """The answer in words; `print(result.answer)` shows it as the command does."""
        return answer_of(self.selection, self.curves)

    @property
    def sentence(self) -> str:
        """Which model to fine-tune, how certain that is, and why, in at most two sentences."""
        return self.answer.sentence

    def leaderboard(self) -> pd.DataFrame:
        """One row per candidate; see `lensllm.reports.leaderboard`.

        Columns of losses are named for the measure: `predicted_accuracy` for accuracy.
        """
        table = leaderboard(self.selection, self.curves)
        return table.rename(columns=self.selection.measure.headings)

    def plot(self) -> Figure | None:
        """Learning curves and predictions; `None` if nothing at D > 0 was measured."""
        return selection_figure(self.selection, self.curves)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs no other.

        Args:
            path: The file.

        Raises:
            StorageError: The file cannot be written.
        """
        from lensllm.reports.html_report import write_report

        return write_report(self.folder, Path(path))

    def finetune(
        self,
        output: str | Path,
        candidate: str | None = None,
        confirm: int = 1,
        merge: bool = False,
    ) -> Path:
        """Fine-tune the chosen model on all the data, with the recipe of the trials, and save it.

        The folder has weights, tokenizer and a model card, which says whether the prediction held.

        Args:
            output: A new or empty folder.
            candidate: Which candidate; `None` for the chosen one.
            confirm: Number of contenders to fine-tune in full; the best one is kept.
            merge: Whether adapters are merged into the weights.

        Returns:
            The folder, for `from_pretrained`.

        Raises:
            ValueError: The campaign did not fine-tune, or its data have changed.
            NoCandidateError: No trial completed.
            StorageError: The folder cannot be written.
        """
        from lensllm.api.winner import finetune_and_describe
        from lensllm.execution.finetune import FineTuneRunner
        from lensllm.execution.selection_file import read_selection
        from lensllm.reports.winner_card import winner_sentence

        record = read_selection(self.folder)
        runner = None if self.make_runner is None else self.make_runner()
        if not isinstance(runner, FineTuneRunner):
            raise ValueError(
                "Expected a campaign by fine-tuning, got one of another runner: fine-tune its "
                "winner by the program that ran its trials"
            )
        options: dict[str, Any] = {"candidate": candidate, "confirm": confirm, "merge": merge}
        winner = finetune_and_describe(runner, record, Path(output), **options)
        logger.info("%s", winner_sentence(winner))
        return winner.folder

    def save(self, folder: str | Path) -> Path:
        """Copy the files of the result to another folder, which `lensllm.load_result` reads.

        Raises:
            FileExistsError: There is such a folder already.
        """
        return Path(shutil.copytree(self.folder, Path(folder)))

    def _repr_html_(self) -> str:
        """The answer and the leaderboard, in a notebook."""
        table = self.leaderboard().to_html(index=False, na_rep="-", float_format="{:.4g}".format)
        lines = "<br>".join(html.escape(plain(line)) for line in self.answer.lines)
        return f"<p>{lines}</p>{table}"
