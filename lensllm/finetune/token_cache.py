"""Encoded pairs on disk: large data sets are tokenised once, and never wholly in memory."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, overload

import numpy as np

from lensllm.core.trials import canonical_json
from lensllm.data.pairs import Pair
from lensllm.finetune.encoding import EncodingCounts, Example, PairEncoder
from lensllm.system.atomic import (
    digest_of_file,
    set_aside,
    storage_words,
    sync_folder,
)

logger = logging.getLogger(__name__)

BATCH = 1000
_ARRAYS = ("ends.npy", "n_bytes.npy", "tokens.bin")


class EncodedTable(Sequence[Example]):
    """Examples in memory-mapped arrays.

    Args:
        folder: Folder that `encode_to` wrote.

    Raises:
        ValueError: A file is missing, or is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = _verified(folder)
        self.ends = np.load(folder / "ends.npy", mmap_mode="r")  # (n, 2): of source and target
        self.n_bytes = np.load(folder / "n_bytes.npy", mmap_mode="r")
        self.tokens = np.memmap(folder / "tokens.bin", dtype=np.int32, mode="r")

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self.ends[index - 1, 1]) if index else 0
        middle, end = map(int, self.ends[index])
        return Example(
            tuple(self.tokens[start:middle].tolist()),
            tuple(self.tokens[middle:end].tolist()),
            int(self.n_bytes[index]),
        )


def encode_once(
    encoder: PairEncoder, pairs: Sequence[Pair], folder: Path, key: Mapping[str, Any]
) -> Sequence[Example]:
    """Encode pairs into a folder, or find them there.

    Args:
        encoder: Encoder of one model that has encoded nothing yet; it counts what was cut, also
            where the pairs are found encoded.
        pairs: The pairs.
        folder: Folder of all encoded tables.
        key: What determines the encoding; equal keys share a table.

    A table that is not as it was written is set aside, and its pairs are encoded again. Where the
    folder cannot be written (a full disk, say), the pairs are encoded in memory, with a warning.
    """
    digest = hashlib.sha256(canonical_json(dict(key)).encode()).hexdigest()[:16]
    target = folder / digest
    table = _found(target)
    if table is None:
        temporary = folder / f".writing-{uuid.uuid4().hex}"
        try:
            temporary.mkdir(parents=True)
            encode_to(encoder, pairs, temporary)
            os.rename(temporary, target)
            sync_folder(folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not target.is_dir():  # else another process was faster
                logger.warning(
                    "%s; runner.token_cache names this folder. The pairs are kept in memory",
                    storage_words(temporary, error),
                )
                encoder.counts = EncodingCounts()
                return encoder.encode(list(pairs))
        table = EncodedTable(target)
    encoder.counts = EncodingCounts(**table.counts)
    return table


def _found(target: Path) -> EncodedTable | None:
    """The table in a folder; `None` where there is none, or none any more."""
    if not target.is_dir():
        return None
    try:
        return EncodedTable(target)
    except (ValueError, OSError) as error:
        place = set_aside(target)
        logger.warning("Set aside %s as %s: %s", target, place.name, error)
        return None


def _verified(folder: Path) -> dict[str, Any]:
    """Counts of a table whose files are what `encode_to` wrote, by their digests.

    Raises:
        ValueError: They are not.
    """
    try:
        record = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        digests = record.pop("digests")
        names = {item.name for item in fields(EncodingCounts)}
        if set(record) != names or set(digests) != set(_ARRAYS):
            raise ValueError("its fields are others")
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise ValueError(
            f"Expected counts and digests in {folder}/counts.json ({error})"
        ) from error
    for name in _ARRAYS:
        if not (folder / name).is_file() or digest_of_file(folder / name) != digests[name]:
            raise ValueError(f"Expected {name} in {folder} as it was written, got another content")
    return record


def encode_to(encoder: PairEncoder, pairs: Sequence[Pair], folder: Path) -> None:
    """Encode pairs, a thousand at a time, into the arrays of an `EncodedTable`."""
    ends: list[tuple[int, int]] = []
    n_bytes: list[int] = []
    total = 0
    with (folder / "tokens.bin").open("wb") as stream:
        for start in range(0, len(pairs), BATCH):
            for example in encoder.encode(list(pairs[start : start + BATCH])):
                # Not `tofile`, which does not tell when a full disk takes only a part.
                tokens = np.asarray((*example.source, *example.target), dtype=np.int32)
                stream.write(tokens.tobytes())
                middle = total + len(example.source)
                total += example.n_tokens
                ends.append((middle, total))
                n_bytes.append(example.n_bytes)
    _save(folder / "ends.npy", np.asarray(ends, dtype=np.int64).reshape(-1, 2))
    _save(folder / "n_bytes.npy", np.asarray(n_bytes, dtype=np.int64))
    digests = {name: digest_of_file(folder / name) for name in _ARRAYS}
    record = {**asdict(encoder.counts), "digests": digests}
    (folder / "counts.json").write_text(json.dumps(record), encoding="utf-8")


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array as `.npy` through memory: `np.save` into a file hides that a disk is full."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())
