"""Search for the settings of one trial with the smallest loss, with Optuna."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lensllm.core.trials import TrialResult

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Range:
    """The range of a setting: a number between two others, or one of several values.

    Attributes:
        name: The setting, such as `optimizer.lr`.
        low: Smallest number; > 0 where `log` is true.
        high: Largest number.
        log: Whether numbers are drawn uniformly in their logarithm.
        choices: The values; `None` for a range of numbers.

    Raises:
        ValueError: Neither a range nor choices are given, or both.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        least = 0.0 if self.log else -math.inf
        if self.low is not None and self.high is not None:
            valid = self.choices is None and least < self.low < self.high < math.inf
        else:
            valid = self.low is None and self.high is None and bool(self.choices)
        if not valid:
            raise ValueError(
                f"Expected low < high (above 0 with log=true), or choices, of {self.name}, got "
                f"low={self.low}, high={self.high}, log={self.log}, choices={self.choices}"
            )

    def suggest(self, trial: optuna.Trial) -> Any:
        """A value for one of Optuna's trials."""
        if self.choices is not None:
            return trial.suggest_categorical(self.name, list(self.choices))
        return trial.suggest_float(self.name, self.low or 0.0, self.high or 0.0, log=self.log)


def search(
    run: Callable[[Mapping[str, Any]], TrialResult],
    space: Sequence[Range],
    objective: str = "validation_loss",
    n_trials: int = 6,
    n_random: int = 4,
    seed: int = 0,
) -> list[tuple[dict[str, Any], TrialResult]]:
    """Search by a tree-structured Parzen estimator (Bergstra et al. 2011), one trial at a time.

    A trial that diverges or fails ranks below all others, and the search continues.

    Args:
        run: Runs a trial with the given settings, by name, and returns its result.
        space: The range of each setting.
        objective: Field of the result to minimise.
        n_trials: Number of trials.
        n_random: How many of these are drawn at random, before the others.
        seed: Seed of the draws.

    Returns:
        Settings and results, in the order of the trials.

    Raises:
        ValueError: The space is empty.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs its plugins
    import optuna

    if not space:
        raise ValueError("Expected at least one setting with its range in `space`, got none")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=n_random, seed=seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    found = []
    for _ in range(n_trials):
        asked = study.ask()
        values = {span.name: span.suggest(asked) for span in space}
        result = run(values)
        loss = float(getattr(result, objective))
        if result.status == "completed" and math.isfinite(loss):
            study.tell(asked, loss)
        else:
            # Worse than any trial with a loss. If told that a trial failed, the sampler would learn
            # nothing, and would try settings at which training diverges again.
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        found.append((values, result))
    return found
