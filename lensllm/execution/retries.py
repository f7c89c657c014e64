"""How often a trial whose process died is started again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lensllm.core.protocols import Runner
from lensllm.core.trials import Trial


@dataclass
class Retries:
    """Counts in how many attempts in a row a trial got no further before its process died.

    An attempt that leaves a new checkpoint does not count: a trial that is preempted again and
    again, or is longer than its jobs may be, ends at last, and one that dies at the same step each
    time does not run for ever.

    Attributes:
        most: Attempts that may follow one that got no further.
    """

    most: int
    _in_a_row: Counter[Trial] = field(default_factory=Counter)
    _saved_at: dict[Trial, float] = field(default_factory=dict)

    def allow(self, runner: Runner, trial: Trial) -> bool:
        """Whether to start a trial again whose process has died."""
        saved_at = runner.saved_at(trial)
        if saved_at is None or saved_at == self._saved_at.get(trial):
            self._in_a_row[trial] += 1
        else:
            self._saved_at[trial] = saved_at
            self._in_a_row[trial] = 0
        return self._in_a_row[trial] <= self.most
