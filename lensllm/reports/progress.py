"""Progress of a campaign in the terminal: one line per trial, and the budget."""

from __future__ import annotations

import time

from rich.console import Console

from lensllm.core.measures import LOSS, Measure
from lensllm.core.task import Budget
from lensllm.core.trials import TrialResult
from lensllm.reports.words import outcome_words


class CampaignProgress:
    """Prints one line per finished trial: its name and loss, the budget spent, the time elapsed.

    Args:
        console: Console to print on.
        measure: The measure by which candidates are compared.
    """

    def __init__(self, console: Console, measure: Measure = LOSS) -> None:
        self.console = console
        self.measure = measure
        self.start = time.perf_counter()
        self.n_trials = 0

    def update(self, result: TrialResult, budget: Budget) -> None:
        """Print the line of one trial."""
        self.n_trials += 1
        trial = result.trial
        self.console.print(
            f"[{time.perf_counter() - self.start:6.0f} s] trial {self.n_trials}: {trial.model}, "
            f"D = {trial.n_samples}: {outcome_words(result, self.measure)}; "
            f"{budget.spent / budget.flops:.0%} of the budget spent",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
