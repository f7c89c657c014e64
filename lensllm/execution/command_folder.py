"""The folder of a program's trial: its subset, its configuration files, its output."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lensllm.core.trials import Trial
from lensllm.data.files import write_jsonl
from lensllm.data.pairs import TextData
from lensllm.data.rows import nested_subset, take
from lensllm.execution.command_models import ProgramModel
from lensllm.execution.command_template import CommandTemplate
from lensllm.system.atomic import StorageError, storage_words


@contextmanager
def trial_folder(store: Path, trial: Trial) -> Iterator[Path]:
    """A new folder for a trial, removed at its end; leftovers of a killed trial are removed first.

    Args:
        store: Folder of the store, in which a folder `logs` is created as well.
        trial: The trial, with all settings.

    Raises:
        StorageError: It cannot be made.
    """
    room = store.resolve() / ".command"
    for left in room.glob(f"{trial.key}-*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        room.mkdir(parents=True, exist_ok=True)
        (store / "logs").mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{trial.key}-", dir=room))
    except OSError as error:
        raise StorageError(storage_words(room, error)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_files(
    folder: Path, trial: Trial, data: TextData, model: ProgramModel, template: CommandTemplate
) -> list[str]:
    """Write the splits and the configuration files that a program reads, and create `output`.

    Args:
        folder: The trial's folder.
        trial: The trial.
        data: The data set, of whose training pairs the trial has the first `n_samples` of one
            permutation by its seed.
        model: The candidate.
        template: The program's command and configuration files.

    Returns:
        The command that runs it, as a list of words.

    Raises:
        StorageError: A file cannot be written.
    """
    chosen = nested_subset(len(data.train), trial.n_samples, trial.seed)
    splits = {
        "train": take(data.train, chosen),
        "validation": data.validation,
        "test": data.test,
    }
    values = {
        "model": model.location,
        "n_samples": str(trial.n_samples),
        "seed": str(trial.seed),
        "output_dir": str(folder / "output"),
        "config_dir": str(folder / "config"),
        **{f"{name}_file": str(folder / f"{name}.jsonl") for name in splits},
    }
    try:
        (folder / "output").mkdir()
        (folder / "config").mkdir()
        for name, pairs in splits.items():
            write_jsonl(folder / f"{name}.jsonl", pairs)
        template.write_configs(folder / "config", values)
    except OSError as error:
        raise StorageError(storage_words(folder, error)) from error
    return template.fill(values)
