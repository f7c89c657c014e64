"""What a campaign knew and in which order results arrived, so that it can be resumed.

A campaign uses results that are already in the store at no charge. When it resumes after a kill,
it must not count its own trials among these: it would spend its budget twice and choose other
trials. So the keys of the known results are written when a campaign first begins, and removed when
it has ended. Where several trials run at once, its decisions also depend on the order in which they
end: it is recorded as well, and a resumed campaign waits for its trials in this order.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lensllm.core.protocols import Runner
from lensllm.core.trials import Trial, TrialResult, digest_of
from lensllm.system.atomic import set_aside, write_whole

logger = logging.getLogger(__name__)


# Settings that do not affect a campaign's outcome, or that are in the keys of its trials.
_FREE = ("paths", "logger", "executor", "runner", "preflight", "allowed_targets")


def campaign_key(runner: Runner, settings: Mapping[str, Any]) -> str:
    """A hash of everything that determines a campaign: its settings and its candidates' files.

    Args:
        runner: The runner of its trials.
        settings: The configuration as it is stored.
    """
    task = runner.task()
    return digest_of(
        {
            "settings": {name: value for name, value in settings.items() if name not in _FREE},
            "trials": [
                runner.complete(task.trial(name, task.n_samples_full)).key for name in task.names
            ],
        }
    )


class Ledger:
    """The record, in the store, of what one campaign knew at its beginning, and of its course.

    Args:
        folder: Folder of the store.
        key: Key of the campaign: a hash of everything that determines it.

    Attributes:
        arrivals: The (candidate, D) pairs whose results have arrived, in their order, in this run
            and in the one that it resumes.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".campaigns" / f"{key}.json"
        self.copy = self.path.with_suffix(".copy")  # for a record that a disk has damaged
        self.arrivals: list[tuple[str, int]] = []
        self._known: list[str] = []
        self._n_arrived = 0

    def open(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """The results that were in the store when the campaign first began.

        Args:
            results: The results that are in the store now.

        Raises:
            StorageError: The record cannot be written.
        """
        if not (self._read(self.path) or self._read(self.copy)):
            self._known = [result.trial.key for result in results]
            self._write()
        known = set(self._known)
        return [result for result in results if result.trial.key in known]

    @property
    def expected(self) -> tuple[str, int] | None:
        """The (candidate, D) pair that arrived next in the run that is resumed, if there is one."""
        return self.arrivals[self._n_arrived] if self._n_arrived < len(self.arrivals) else None

    def add(self, trial: Trial) -> None:
        """Record that the result of a trial has arrived in this run.

        Raises:
            StorageError: The record cannot be written.
        """
        is_known = trial.point == self.expected
        if not is_known:
            self.arrivals[self._n_arrived :] = [trial.point]
            self._write()
        self._n_arrived += 1

    def close(self) -> None:
        """End the campaign: the next one may use its results."""
        self.copy.unlink(missing_ok=True)  # first: a copy alone would be a campaign to go on with
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        record = {"known": self._known, "arrivals": [list(pair) for pair in self.arrivals]}
        text = json.dumps({**record, "digest": digest_of(record, 64)}) + "\n"
        write_whole(self.path, text)
        write_whole(self.copy, text)

    def _read(self, path: Path) -> bool:
        """Whether a file is a readable record, which is then this one's."""
        if not path.is_file():
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            digest = record.pop("digest")
            if digest != digest_of(record, 64):
                raise ValueError("it was changed after it was written")
            known = [str(key) for key in record["known"]]
            arrivals = [(str(model), int(n)) for model, n in record.get("arrivals", ())]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("Set aside %s as %s: %s", path, set_aside(path).name, error)
            return False
        self._known, self.arrivals = known, arrivals
        return True
