"""Encoded pairs on disk: large data sets are tokenised once, and never wholly in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np

from lensllm.data.pairs import Pair
from lensllm.finetune.encoding import EncodingCounts, Example, PairEncoder
from lensllm.trials import canonical_json

BATCH = 1000


class EncodedTable(Sequence[Example]):
    """Examples in memory-mapped arrays.

    Args:
        folder: Folder that `encode_to` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
) -> EncodedTable:
    """Encode pairs into a folder, or find them there.

    Args:
        encoder: Encoder of one model that has encoded nothing yet; it counts what was cut, also
            where the pairs are found encoded.
        pairs: The pairs.
        folder: Folder of all encoded tables.
        key: What decides the outcome; equal keys find each other's tables.

    Raises:
        ValueError: The disk is full.
    """
    digest = hashlib.sha256(canonical_json(dict(key)).encode()).hexdigest()[:16]
    target = folder / digest
    if not target.is_dir():
        temporary = folder / f".writing-{uuid.uuid4().hex}"
        try:
            temporary.mkdir(parents=True)
            encode_to(encoder, pairs, temporary)
            os.rename(temporary, target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if error.errno == errno.ENOSPC:
                raise ValueError(
                    f"Expected room for encoded pairs in {folder}, got: {error}; free some, or set "
                    "runner.token_cache to another disk"
                ) from error
            if not target.is_dir():  # else another process was faster
                raise
    counts = json.loads((target / "counts.json").read_text(encoding="utf-8"))
    encoder.counts = EncodingCounts(**counts)
    return EncodedTable(target)


def encode_to(encoder: PairEncoder, pairs: Sequence[Pair], folder: Path) -> None:
    """Encode pairs, a thousand at a time, into the arrays of an `EncodedTable`."""
    ends: list[tuple[int, int]] = []
    n_bytes: list[int] = []
    total = 0
    with (folder / "tokens.bin").open("wb") as stream:
        for start in range(0, len(pairs), BATCH):
            for example in encoder.encode(list(pairs[start : start + BATCH])):
                np.asarray((*example.source, *example.target), dtype=np.int32).tofile(stream)
                middle = total + len(example.source)
                total += example.n_tokens
                ends.append((middle, total))
                n_bytes.append(example.n_bytes)
    np.save(folder / "ends.npy", np.asarray(ends, dtype=np.int64).reshape(-1, 2))
    np.save(folder / "n_bytes.npy", np.asarray(n_bytes, dtype=np.int64))
    (folder / "counts.json").write_text(json.dumps(asdict(encoder.counts)), encoding="utf-8")
