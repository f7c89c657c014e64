"""What a campaign knew when it began, so that one that was killed ends as an unbroken one.

A campaign takes in what the store has already, at no charge. Taken up after a kill, it must not
take its own trials for such: it would spend its budget twice, and decide otherwise. So the keys of
what was known are written down when a campaign first begins, and removed when it has ended.
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


# Settings that decide nothing of a campaign, or that its trials have in their keys.
_FREE = ("paths", "logger", "executor", "runner", "preflight", "allowed_targets")


def campaign_key(runner: Runner, settings: Mapping[str, Any]) -> str:
    """A hash of all that decides a campaign: its settings, and its candidates' files.

    Args:
        runner: Who runs its trials.
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
    """The note of one campaign in its store.

    Args:
        folder: Folder of the store.
        key: What tells the campaign from others: a hash of everything that decides it.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".campaigns" / f"{key}.json"

    def open(self, results: Sequence[TrialResult]) -> list[TrialResult]:
        """Those results that were there when the campaign first began.

        Args:
            results: Those that are there now.

        Raises:
            StorageError: The note cannot be written.
        """
        known = self._read()
        if known is None:
            known = [result.trial.key for result in results]
            record = {"known": known}
            write_whole(self.path, json.dumps({**record, "digest": digest_of(record, 64)}) + "\n")
        return [result for result in results if result.trial.key in set(known)]

    def close(self) -> None:
        """The campaign has ended: the next one knows what it found."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[str] | None:
        """The keys that were written down; `None` where there are none, or none any more."""
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
