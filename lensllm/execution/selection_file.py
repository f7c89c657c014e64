"""Reads the `selection.json` of a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_record(path: Path) -> dict[str, Any]:
    """Read the `selection.json` of a campaign.

    Args:
        path: The file, or its folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another kind of file, or comes from an older version.
    """
    path = path / "selection.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"Expected a selection.json, got {path}, which is no file")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {path}, got: {error}") from error
    wanted = ("format", "dataset", "n_samples_full", "measure", "ranking", "settings", "selected")
    lacking = [key for key in wanted if not isinstance(record, dict) or key not in record]
    if lacking:
        raise ValueError(
            f"Expected a selection of format 2 or later in {path}, which lacks {lacking[0]!r}: run "
            "`lensllm select` again; finished trials are taken from the store"
        )
    return record


def read_selection(path: Path) -> dict[str, Any]:
    """Read the `selection.json` of a campaign that fine-tuned.

    Args:
        path: The file, or its folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another kind of file, or comes from a replay or an older version.
    """
    record = read_record(path)
    if "candidates" not in record["settings"] or not record.get("data_fingerprint"):
        raise ValueError(f"Expected a campaign by fine-tuning in {path}, got one by replay")
    return record
