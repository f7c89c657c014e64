"""Reads the `selection.json` of a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def latest_selection(folder: Path) -> Path | None:
    """The newest `selection.json` in a folder of campaigns (or of their sweeps), if it has any."""
    found = [*folder.glob("*/selection.json"), *folder.glob("*/*/selection.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def find_selection(given: str, folder: Path) -> Path:
    """The `selection.json` that a user means.

    Args:
        given: Its path, its folder, or `latest`.
        folder: The folder of all campaigns.

    Raises:
        FileNotFoundError: There is none; the message names the latest campaign.
    """
    path, latest = Path(given).expanduser(), latest_selection(folder)
    if given == "latest" and latest is not None and not path.exists():
        return latest
    path = path / "selection.json" if path.is_dir() else path
    if path.is_file():
        return path
    advice = "run `lensllm select` first"
    if near := latest_selection(Path(given)) or latest_selection(Path(given).parent):
        advice = f"the latest campaign there is selection={near.parent}"
    elif latest is not None:
        advice = f"selection=latest takes {latest.parent}"
    raise FileNotFoundError(f"Expected a selection.json, got {path}, which is no file: {advice}")


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
