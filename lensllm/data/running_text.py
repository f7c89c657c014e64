"""Language modelling: running text, packed into passages of one length."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lensllm.data.pairs import Pair, TextData, make_text_data
from lensllm.data.rows import Rows, Template
from lensllm.data.tables import explained, load_splits


def load_running_text(
    path: str,
    name: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    data_files: Any = None,
    column: str = "text",
    train_split: str = "train",
    validation_split: str = "validation",
    test_split: str = "test",
    n_characters: int = 1000,
    n_context: int = 100,
    n_validation: int = 500,
    n_test: int = 1000,
    max_input_tokens: int = 128,
    max_target_tokens: int = 512,
) -> TextData:
    """Load running text as passages: the beginning of each is the input, the rest the target.

    Texts are packed one after the other and cut at the first space after every `n_characters`
    characters, so that a sample is the same text for every model, whatever its tokenizer. Train
    with `training.prompt='{input}'`, which puts nothing between the two parts. Passages are packed
    once, and stay on disk.

    Args:
        path: What `datasets.load_dataset` takes: a Hub id, a folder, or a format.
        name: Name of the data set in trials and curves.
        config: Configuration of the data set.
        revision: Branch, tag or commit on the Hub.
        data_files: Files, where `path` is a format.
        column: Column that holds the text.
        train_split: Split to train on.
        validation_split: Split for validation.
        test_split: Split for the test.
        n_characters: Characters of a passage, at least.
        n_context: Characters of the input, at least.
        n_validation: Most validation passages.
        n_test: Most test passages.
        max_input_tokens: See `TextData`.
        max_target_tokens: See `TextData`; longer passages are cut.

    Raises:
        ValueError: The data set is not available, or lacks a split or the column.
    """
    if not 0 < n_context < n_characters:
        raise ValueError(
            f"Expected 0 < dataset.n_context < dataset.n_characters = {n_characters}, "
            f"got {n_context}"
        )
    splits = (train_split, validation_split, test_split)
    tables = load_splits(path, name, config, revision, data_files, splits)
    for split in splits:
        if column not in tables[split].column_names:
            raise ValueError(
                f"Expected the column {column!r} (dataset.column) in {name!r}, which has "
                f"{', '.join(tables[split].column_names)}"
            )
    train, validation, test = (
        _packed(tables[split], column, n_characters, n_context, most)
        for split, most in zip(splits, (None, n_validation, n_test), strict=True)
    )
    return make_text_data(name, train, validation, test, max_input_tokens, max_target_tokens)


def _packed(table: Any, column: str, n_characters: int, n_context: int, most: int | None) -> Rows:
    """The passages of one split, in a table that `datasets` keeps in its cache.

    Raises:
        ValueError: The text is too short for a passage, or there is no disk space for the table.
    """
    import datasets

    text = datasets.Value("string")
    options: dict[str, Any] = {
        "table": table,
        "column": column,
        "n_characters": n_characters,
        "n_context": n_context,
        "most": most,
    }
    if next(_rows(**options), None) is None:
        raise ValueError(
            f"Expected more than dataset.n_characters = {n_characters} characters of text in every "
            f"split, got fewer in one of {len(table)} rows"
        )
    try:
        packed = datasets.Dataset.from_generator(
            _rows, features=datasets.Features({"input": text, "target": text}), gen_kwargs=options
        )
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(explained(error, column)) from error
    return Rows(packed, Template("{input}", "{target}"))


def _rows(
    table: Any, column: str, n_characters: int, n_context: int, most: int | None
) -> Iterator[dict[str, str]]:
    """Passages as rows of a table."""
    texts = (text for batch in table.iter(1000) for text in batch[column])
    for given, rest in passages(texts, n_characters, n_context, most):
        yield {"input": given, "target": rest}


def passages(
    texts: Iterable[str | None], n_characters: int, n_context: int, most: int | None = None
) -> Iterator[Pair]:
    """Pack texts and cut them into (beginning, rest) pairs; what is left over is dropped.

    Example:
        >>> list(passages(["one two", "", "three four five six"], 12, 3))
        [('one', ' two three'), ('four', ' five six')]
    """
    buffer, found = "", 0
    for text in itertools.chain(_cleaned(texts), [""]):
        buffer = f"{buffer} {text}".strip() if text else f"{buffer} "
        while (end := buffer.find(" ", n_characters)) > 0:
            if most is not None and found >= most:
                return
            middle = buffer.find(" ", n_context)
            yield buffer[:middle], buffer[middle:end]
            buffer, found = buffer[end + 1 :], found + 1


def _cleaned(texts: Iterable[str | None]) -> Iterator[str]:
    for text in texts:
        words = re.sub(r"\s+", " ", text or "").strip()
        if words:
            yield words
