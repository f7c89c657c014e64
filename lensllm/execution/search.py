"""Settings that lower the loss of one trial: Optuna asks, a trial is run, Optuna is told."""

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
    """What a setting may be: a number between two others, or one of several values.

    Attributes:
        name: The setting, such as `optimizer.lr`.
        low: Smallest number; > 0 where `log` is true.
        high: Largest number.
        log: Whether numbers are drawn evenly in their logarithm.
        choices: The values; `None` for a range of numbers.

    Raises:
        ValueError: It is neither, or both.
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
    """Settings by a tree-structured Parzen estimator (Bergstra et al. 2011), one trial at a time.

    A trial that diverges or fails ranks below all others, and the search goes on.

    Args:
        run: From settings by their names to the result of a trial with them.
        space: What each setting may be.
        objective: Field of the result that is to be small.
        n_trials: How many trials.
        n_random: Of these, how many are drawn at random at first.
        seed: Of the draws.

    Returns:
        Settings and results in their order.

    Raises:
        ValueError: The space is empty.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its plugins
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
            # Worse than any that has a loss. Of failed ones the sampler would learn nothing, and
            # ask again where training diverges.
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        found.append((values, result))
    return found
