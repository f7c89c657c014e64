"""Tables of the Hub and on disk, through `datasets`: memory-mapped, whatever their size."""

from __future__ import annotations

import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lensllm.data.containers import find_files, is_saved
from lensllm.data.files import name_of
from lensllm.data.pairs import TextData, make_text_data
from lensllm.data.rows import Rows, Template, split_rows, with_targets
from lensllm.system.atomic import full_disk

logger = logging.getLogger(__name__)


def load_parquet(path: str | Sequence[str], **options: Any) -> TextData:
    """Load pairs from Parquet files.

    Args:
        path: A file, a folder, a pattern such as `data/**/*.parquet`, or several.
        **options: See `load_table`; `name` is the file's by default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: See `load_table`.
    """
    given = [path] if isinstance(path, str) else list(path)
    files = [glob.escape(str(file)) for item in given for file in find_files(item, "parquet")]
    options["name"] = options.get("name") or name_of(given)
    return load_table("parquet", data_files=files if len(files) > 1 else files[0], **options)


def load_table(
    path: str,
    name: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    data_files: Any = None,
    train_split: str = "train",
    validation_split: str | None = None,
    test_split: str | None = None,
    input: str = "{input}",  # noqa: A002
    target: str = "{target}",
    join: str | None = None,
    n_train: int | None = None,
    n_validation: int = 1000,
    n_test: int = 2000,
    seed: int = 0,
    max_input_tokens: int = 512,
    max_target_tokens: int = 128,
) -> TextData:
    """Load pairs from a data set of the Hub, a folder of files, or files of one format.

    Splits that the data set does not have are taken from its training rows, by distinct inputs.

    Args:
        path: What `datasets.load_dataset` takes: a Hub id, a folder, or a format.
        name: Name of the data set in trials and curves.
        config: Configuration of the data set, such as a language pair.
        revision: Branch, tag or commit on the Hub.
        data_files: Files, where `path` is a format.
        train_split: Split to train on.
        validation_split: Split for validation; `None` to take it from the training rows.
        test_split: Split for the test; likewise.
        input: Format string of the input, see `Template`.
        target: Format string of the target.
        join: Separator between the members of a list; without it lists are not accepted as texts.
        n_train: Most training pairs, by a seeded choice; all by default.
        n_validation: Most validation pairs.
        n_test: Most test pairs.
        seed: Seed of splits and choices.
        max_input_tokens: See `TextData`.
        max_target_tokens: See `TextData`.

    Raises:
        ValueError: The data set is not available, lacks a split or a column, or is too small.
    """
    limits = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test}
    for option, value in limits.items():
        if value is not None and value <= 0:
            raise ValueError(f"Expected dataset.{option} > 0, got {value}")
    splits = (train_split, validation_split, test_split)
    tables = load_splits(path, name, config, revision, data_files, splits)
    template = Template(input, target, join)
    train, validation, test, dropped = split_rows(
        Rows(tables[train_split], template),
        0 if validation_split else n_validation,
        0 if test_split else n_test,
        seed,
    )
    if validation_split:
        rows = Rows(tables[validation_split], template)
        validation = _choice(usable := with_targets(rows), n_validation, seed)
        dropped += len(rows) - len(usable)
    if test_split:
        rows = Rows(tables[test_split], template)
        test = _choice(usable := with_targets(rows), n_test, seed)
        dropped += len(rows) - len(usable)
    if dropped:
        logger.warning("Dropped %d repeated or empty pairs of %s", dropped, name)
    train = train if n_train is None else _choice(train, n_train, seed)
    return make_text_data(name, train, validation, test, max_input_tokens, max_target_tokens)


def _choice(rows: Rows, most: int, seed: int) -> Rows:
    """At most `most` rows by a seeded choice."""
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    return Rows(rows.table, rows.template, rows.indices[np.sort(order)])


def load_splits(
    path: str,
    name: str,
    config: str | None,
    revision: str | None,
    data_files: Any,
    splits: Sequence[str | None],
) -> Mapping[str, Any]:
    """The splits of a data set, memory-mapped.

    Raises:
        ValueError: It is not available or lacks a split, or the disk is full.
    """
    import datasets

    datasets.disable_progress_bars()
    options = {} if data_files is None else {"data_files": data_files}
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not path.startswith((".", "~", "/")) and not folder.is_absolute():
            logger.warning(
                "%s is read from the folder %s here, not from the Hub: write ./%s to mean the "
                "folder, or run from another folder",
                path,
                folder.resolve(),
                path,
            )
        path = str(folder)
    try:
        if is_saved(folder):
            found = datasets.load_from_disk(path)
            tables = found if isinstance(found, dict) else {"train": found}
        else:
            tables = datasets.load_dataset(path, config, revision=revision, **options)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        raise ValueError(
            explained(error, path if data_files is None else str(data_files))
        ) from error
    for split in splits:
        if split is not None and split not in tables:
            raise ValueError(
                f"Expected a split among {', '.join(tables)} of {name!r}, got {split!r}"
            )
    return tables


def explained(error: Exception, path: str) -> str:
    """Why a data set cannot be loaded, and what to do."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if (room := full_disk(error, path)) is not None:
        return room
    if "Dataset scripts" in str(error):
        return (
            f"Expected a data set of files at {path!r}, got a script, which `datasets` no longer "
            "runs: take dataset.revision=refs/convert/parquet where the Hub has that branch of it, "
            "or dataset=parquet with its files"
        )
    if type(error).__name__ in ("DatasetGenerationError", "ArrowInvalid"):
        return f"Expected files that can be read at {path!r}, got: {causes[-1]}"
    return (
        f"Expected the data set {path!r} on the Hub, in the local cache or as a folder, got: "
        f"{error}; a gated one needs its terms accepted and `hf auth login`"
    )
