"""Runs of Weights & Biases from their folders: `wandb/offline-run-*/run-*.wandb`.

W&B has no public reader for these files, and an offline run has its numbers nowhere else. After
seven bytes of its own, a file is a log in LevelDB's format
(https://github.com/google/leveldb/blob/main/doc/log_format.md), with the CRC-32 of type and data as
checksum. Its records are the messages that the processes of W&B exchange, in all versions.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lensllm.core.past_runs.run import Count, PastRun, flat, number
from lensllm.core.past_runs.trainer_state import estimated_n_samples

_MAGIC = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_HEADER = struct.Struct("<IHB")  # checksum, length, type
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_wandb_folders(path: Path) -> list[PastRun]:
    """The run of one `.wandb` file, or those of all such files below a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("run-*.wandb"))
    return [_read_run(file) for file in files]


def records(data: bytes) -> Iterator[bytes]:
    """Complete records of a log, up to the first one that was not written completely.

    Raises:
        ValueError: It is not a W&B log.
    """
    if not data.startswith(_MAGIC):
        raise ValueError(f"Expected W&B's file to begin with {_MAGIC!r}, got {data[:7]!r}")
    at, parts = len(_MAGIC), b""
    while at + _HEADER.size <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _HEADER.size:
            at += left
            continue
        checksum, length, kind = _HEADER.unpack_from(data, at)
        part = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        at += _HEADER.size + length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts


def _read_run(path: Path) -> PastRun:
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    name, end, job_type = path.stem.removeprefix("run-"), None, ""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    try:
        for data in records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name, job_type = record.run.display_name or name, record.run.job_type
                config |= _values(record.run.config.update)
            elif kind == "config":
                config |= _values(record.config.update)
            elif kind == "history":
                history.append(_values(record.history.item))
            elif kind == "summary":
                summary |= _values(record.summary.update)
            elif kind == "exit":
                end = record.exit.exit_code
    except (ValueError, OSError, RecursionError, DecodeError) as error:
        return PastRun(name, path, problem=f"Expected a file of W&B at {path}, got: {error}")
    if job_type == "campaign" and "candidates" in config:
        return PastRun(name, path, problem="it is a campaign, whose trials have their own runs")
    if end:
        return PastRun(name, path, problem=f"it ended with exit code {end}")
    logged = {key for row in history for key in row}
    # Values that a program wrote to the summary only, as lensllm does with a trial's result.
    only = {key: value for key, value in summary.items() if key not in logged}
    history += [only] if only else []
    return PastRun(
        name,
        path,
        {"its config": config},
        tuple(row for row in history if row.get("train/global_step") != 0),
        next((row for row in history if row.get("train/global_step") == 0), {}),
        _n_samples(config, history),
        () if end == 0 else ("it has no end: the run was killed, or goes on",),
    )


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Keys and values of a message, nested keys joined by dots."""
    return flat(
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
    )


def _n_samples(config: dict[str, Any], history: list[dict[str, Any]]) -> Count | None:
    """D of a run of Hugging Face's Trainer, from what its callback logged."""
    rows = [{key.removeprefix("train/"): row[key] for key in row} for row in history]
    last = {key: value for row in rows for key, value in row.items()}
    last["max_steps"] = last.get("global_step")
    per_device = number(config.get("per_device_train_batch_size"))
    batch = per_device * number(config.get("gradient_accumulation_steps"))
    return estimated_n_samples(last, rows, batch, "devices")
