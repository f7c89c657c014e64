"""Trials in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lensllm.core.trials import Trial, TrialResult
from lensllm.selectors.campaign import Runner, one_by_one


@dataclass(frozen=True)
class LocalExecutor:
    """Executes trials here, each when the one before has ended."""

    def run(self, runner: Runner, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """The results, in the order of the trials."""
        return one_by_one(runner, trials)

    def close(self) -> None:
        """Nothing to end."""
