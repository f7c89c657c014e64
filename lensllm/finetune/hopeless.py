"""Refuses candidates whose files show that no trial can run, before torch is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lensllm.core.task import NoCandidateError
from lensllm.finetune.adapter_folders import adapter_base
from lensllm.finetune.model_files import check_model_folder, folders_beside
from lensllm.zoo import ZOO_DIR, zoo_models

MOST = 1000  # candidates that are checked


def refuse_hopeless(cfg: DictConfig) -> None:
    """Refuse a run none of whose candidates can be tried, before it loads data and libraries.

    Candidates that are not local folders pass; the Hub is queried later. If only some candidates
    cannot be tried, they are left out later, with the same messages.

    Args:
        cfg: The composed configuration, not checked yet.

    Raises:
        NoCandidateError: No candidate of a campaign can be tried; with all reasons.
        ValueError: The one candidate of a trial cannot be tried, or the path of a candidate is no
            folder.
    """
    try:
        sources = OmegaConf.to_container(cfg.runner.sources, resolve=True)
        prompt = cfg.training.prompt
    except (OmegaConfBaseException, AttributeError, ValueError):
        return  # a replay has none; later checks report other errors
    items = list(sources.values() if isinstance(sources, Mapping) else sources or ())[:MOST]
    found = {str(_name(item)): _refusal(item, prompt) for item in items}
    for item in items:
        _refuse_missing(_source(item))
    reasons = {name: reason for name, reason in found.items() if reason}
    if not items or len(reasons) < len(found):
        return
    if "candidates" in cfg:
        raise NoCandidateError(str(cfg.dataset.get("name") or "the data"), reasons)
    raise ValueError(next(iter(reasons.values())))


def _name(item: Any) -> Any:
    if isinstance(item, Mapping):
        return item.get("name") or item.get("source")
    return item


def _source(item: Any) -> str:
    text = item.get("source") if isinstance(item, Mapping) else item
    return re.sub(r"\+(full|lora|qlora)$", "", str(text))


def _refuse_missing(source: str) -> None:
    """Refuse a path, which cannot be the id of a model of the Hub, where there is no folder."""
    if source.startswith(("./", "../", "/", "~")) and not Path(source).expanduser().is_dir():
        raise ValueError(
            f"Expected a model folder, got {source!r}, which is none{folders_beside(source)}"
        )


def _refusal(item: Any, prompt: str) -> str:
    """Why a candidate cannot be tried; empty where its files show no reason."""
    source = _source(item)
    folder = ZOO_DIR / source if source in zoo_models() else Path(source).expanduser()
    if not folder.is_dir():
        return ""
    try:
        is_adapter = not (folder / "config.json").is_file() and adapter_base(folder) is not None
        if not is_adapter:
            check_model_folder(folder)
    except ValueError as error:
        return str(error)
    if prompt == "chat" and not is_adapter and not _has_template(folder):
        return (
            f"Expected a tokenizer with a chat template for training.prompt=chat, {folder} has "
            "none: give the prompt as a text with {input}"
        )
    return ""


def _has_template(folder: Path) -> bool:
    if any(folder.glob("chat_template.*")) or (folder / "additional_chat_templates").is_dir():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # loading the tokenizer will show it
    return not isinstance(settings, dict) or bool(settings.get("chat_template"))
