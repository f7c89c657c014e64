"""The base class of runners that train: one data set, candidates by name, and a store."""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lensllm.core.amounts import read_seconds
from lensllm.core.protocols import Runner
from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.data.pairs import TextData
from lensllm.system.claims import POLL_SECONDS

logger = logging.getLogger(__name__)


class StoredRunner(Runner):
    """Runs trials on one data set, and returns finished ones from a store.

    Args:
        sources: The candidates.
        data: The data set.
        store: Where finished trials are kept and found.
        n_samples_full: Size D_full at which candidates are compared; all training pairs by default.
        sizes: Sizes that trials can have.
        seed: Seed of the trials of a campaign.
        trial_time_limit: Time after which a trial is ended, in seconds or as `30min`; `None` for no
            limit.

    Attributes:
        deadline: When running trials are ended, in seconds since the epoch; `None` for no such
            time. A trial that was ended at a limit is a result of the status `timed_out`; it is
            run again only where it may now take longer.

    Raises:
        ValueError: There are no candidates, two share a name, there are fewer training pairs than
            `n_samples_full`, sizes are out of range, or the limit is no time.
    """

    store: TrialStore

    def __init__(
        self,
        sources: Sequence[Any],
        data: TextData,
        store: TrialStore,
        n_samples_full: int | None,
        sizes: Sequence[int] | None,
        seed: int,
        trial_time_limit: float | str | None = None,
    ) -> None:
        if n_samples_full is not None and not 0 < n_samples_full <= len(data.train):
            raise ValueError(
                f"Expected `n_samples_full` between 1 and {len(data.train)}, the training pairs of "
                f"{data.name!r}, got {n_samples_full}"
            )
        self.sources = _by_name(sources)
        self.data = data
        self.store = store
        self.n_samples_full = len(data.train) if n_samples_full is None else n_samples_full
        self.sizes = self._ladder() if sizes is None else tuple(sorted(sizes))
        _check_sizes(self.sizes, self.n_samples_full)
        self.seed = seed
        limit = trial_time_limit
        self.trial_time_limit = (
            read_seconds(limit, "trial_time_limit") if isinstance(limit, str) else limit
        )
        if self.trial_time_limit is not None and not 0 < self.trial_time_limit < math.inf:
            raise ValueError(f"Expected trial_time_limit > 0, got {limit}")

    @property
    def time_left(self) -> float | None:
        """Seconds that a trial that starts now may take; `None` for no limit."""
        limits = [] if self.trial_time_limit is None else [self.trial_time_limit]
        if self.deadline is not None:
            limits.append(max(0.0, self.deadline - time.time()))
        return min(limits, default=None)

    def stored(self, trial: Trial) -> TrialResult | None:
        """The stored result of a trial, unless it was ended at a limit and may now take longer."""
        result = self.store.get(trial)
        if result is None or result.status != "timed_out":
            return result
        most = self.time_left
        return result if most is not None and result.seconds >= most else None

    @abstractmethod
    def _ladder(self) -> tuple[int, ...]:
        """Sizes of trials if none were given."""

    @abstractmethod
    def _run_new(self, trial: Trial) -> TrialResult:
        """Run a trial with all its settings, and store its result."""

    @abstractmethod
    def _in_unit(self, result: TrialResult) -> TrialResult:
        """A stored result in the units in which a campaign compares and pays."""

    def _check(self, trial: Trial) -> None:
        """Raise an error for trials that are not this runner's."""
        if trial.model not in self.sources:
            raise ValueError(
                f"Expected one of the candidates {', '.join(self.sources)}, got {trial.model!r}"
            )
        if trial.dataset != self.data.name:
            raise ValueError(
                f"Expected a trial on the data set {self.data.name!r}, got {trial.dataset!r}"
            )
        if trial.n_samples > len(self.data.train):
            raise ValueError(
                f"Expected `n_samples` <= {len(self.data.train)}, the training pairs of "
                f"{self.data.name!r}, got {trial.n_samples}"
            )

    def _stored_or_new(self, trial: Trial) -> TrialResult:
        """The stored result, or a new one, for which one process at a time runs the trial."""
        is_told = False
        while True:
            result = self.stored(trial)
            if result is not None:
                return result
            with self.store.claims.hold(trial.key) as mine:
                if mine:
                    return self.stored(trial) or self._run_new(trial)
            if not is_told:
                owner = self.store.claims.owner(trial.key) or {}
                logger.warning(
                    "Waiting for %s at D = %d, which process %s on %s has been at since %s",
                    trial.model,
                    trial.n_samples,
                    *(owner.get(name, "?") for name in ("pid", "host", "since")),
                )
                is_told = True
            time.sleep(POLL_SECONDS)

    def known(self) -> list[TrialResult]:
        """Stored results of trials that a campaign could ask for, including the full size.

        They have the same recipe, data and seed.
        """
        task = self.task()
        results = []
        for name, n_samples in sorted(task.costs):
            found = self.stored(self.complete(task.trial(name, n_samples)))
            if found is not None:
                results.append(self._in_unit(found))
        return results

    def data_summary(self) -> dict[str, Any]:
        """See `lensllm.data.pairs.TextData.summary`."""
        return self.data.summary()

    def examples(self, n: int) -> list[list[str]]:
        """See `lensllm.data.pairs.TextData.examples`."""
        return self.data.examples(n)


def _by_name(sources: Sequence[Any]) -> dict[str, Any]:
    """Candidates by their names, which must be distinct."""
    if not sources:
        raise ValueError("Expected at least one candidate in `candidates.models`, got none")
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Expected candidates with names of their own, got {name!r} twice")
    return dict(zip(names, sources, strict=True))


def _check_sizes(sizes: tuple[int, ...], n_samples_full: int) -> None:
    """Check that ascending sizes are distinct, and from 0 to `n_samples_full`."""
    for size, following in zip(sizes, (*sizes[1:], None), strict=True):
        if size < 0:
            raise ValueError(f"Expected sizes >= 0, got {size}")
        if size > n_samples_full:
            raise ValueError(f"Expected sizes up to n_samples_full = {n_samples_full}, got {size}")
        if size == following:
            raise ValueError(f"Expected each size once, got {size} twice")
