"""The results known when a campaign began, so that a resumed one ends like an uninterrupted one.

A campaign uses results that are already in the store at no charge. When it resumes after a kill,
it must not count its own trials among these: it would spend its budget twice and choose other
trials. So the keys of the known results are written when a campaign first begins, and removed when
it has ended.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lensllm.core.protocols import Runner
from lensllm.core.trials import TrialResult, digest_of
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
    """The record, in the store, of the results that one campaign knew at its beginning.

    Args:
        folder: Folder of the store.
        key: Key of the campaign: a hash of everything that determines it.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".campaigns" / f"{key}.json"

    def open(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """The results that were in the store when the campaign first began.

        Args:
            results: The results that are in the store now.

        Raises:
            StorageError: The record cannot be written.
        """
        known = self._read()
        if known is None:
            known = [result.trial.key for result in results]
            record = {"known": known}
            write_whole(self.path, json.dumps({**record, "digest": digest_of(record, 64)}) + "\n")
        return [result for result in results if result.trial.key in set(known)]

    def close(self) -> None:
        """End the campaign: the next one may use its results."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[str] | None:
        """The recorded keys; `None` if there is no readable record."""
        if not self.path.is_file():
            return None
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            digest = record.pop("digest")
            if digest != digest_of(record, 64):
                raise ValueError("it was changed after it was written")
            return [str(key) for key in record["known"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            place = set_aside(self.path)
            logger.warning("Set aside %s as %s: %s", self.path, place.name, error)
            return None
