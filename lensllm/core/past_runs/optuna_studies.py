"""Trials of Optuna studies, from a storage: a URL, an SQLite file, or a journal file.

Optuna is optional: `pip install optuna` (at least 3.1 for journal files).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lensllm.core.past_runs.run import PastRun, flat

_SQLITE = b"SQLite format 3\x00"
_SCHEME = "sqlite:///"


def is_optuna_storage(path: str | Path) -> bool:
    """Whether a text is a URL, or a file is an SQLite database or an Optuna journal."""
    if "://" in str(path):
        return True
    if not Path(path).is_file():
        return False
    start = _start(path)
    try:
        return start.startswith(_SQLITE) or "op_code" in json.loads(start)
    except (ValueError, TypeError):
        return False


def _start(path: str | Path) -> bytes:
    """The first line of a file, which in a journal is a record."""
    with Path(path).open("rb") as stream:
        return stream.readline(65536)


def read_optuna_trials(path: str | Path) -> list[PastRun]:
    """Complete trials of all studies, each as a run with its objective as the loss `value`.

    Raises:
        ValueError: Optuna is not installed or cannot read the storage, or there are no studies.
        FileNotFoundError: There is no such file; Optuna itself would create one.
    """
    text = str(path)
    file = Path(text.removeprefix(_SCHEME))
    if ("://" not in text or text.startswith(_SCHEME)) and not file.is_file():
        raise FileNotFoundError(f"Expected a storage of Optuna, found no file at {file}")
    try:
        import optuna
    except Exception as error:  # an old Optuna with a new SQLAlchemy can raise any exception
        raise ValueError(
            f"Expected Optuna to read {text}, got: {error or type(error).__name__}; it is "
            "optional: pip install optuna"
        ) from error
    try:
        storage = _storage(text)
        studies = [
            optuna.load_study(study_name=item.study_name, storage=storage)
            for item in optuna.get_all_study_summaries(storage)
        ]
        found = [run for study in studies for run in _runs(study, file)]
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(f"Expected a storage of Optuna at {text}, got {kind}: {error}") from error
    if not found:
        raise ValueError(
            f"Expected trials in the storage {text}, got none in {len(studies)} studies"
        )
    return found


def _storage(text: str) -> Any:
    """A URL for databases, a storage object for journals, whose classes Optuna 4 has renamed."""
    if "://" in text:
        return text
    if _start(text).startswith(_SQLITE):
        return _SCHEME + text
    import optuna

    storages: Any = optuna.storages
    if hasattr(storages, "journal"):
        return storages.JournalStorage(storages.journal.JournalFileBackend(text))
    return storages.JournalStorage(storages.JournalFileStorage(text))


def _runs(study: Any, path: Path) -> list[PastRun]:
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    is_loss = study.directions == [StudyDirection.MINIMIZE]
    runs = []
    for trial in study.get_trials(deepcopy=False):
        name = f"{study.study_name}/{trial.number}"
        if trial.state != TrialState.COMPLETE:
            state = trial.state.name.lower()
            runs.append(PastRun(name, path, problem=f"its state is {state}, not complete"))
            continue
        told = {"params": trial.params, "user_attrs": trial.user_attrs}
        told["user_attrs of the study"] = study.user_attrs
        values = {"value": trial.value} if is_loss else {}
        took = trial.duration.total_seconds() if trial.duration else None
        history = {**trial.user_attrs, **values, "seconds": took}
        config = {kind: flat(settings) for kind, settings in told.items()}
        notes = () if is_loss else ("its objective is no loss to minimise",)
        runs.append(PastRun(name, path, config, (history,), notes=notes))
    return runs
