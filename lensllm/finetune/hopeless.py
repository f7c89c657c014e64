"""Candidates that cannot be tried whatever the data, told by their files before torch is there."""

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
from lensllm.finetune.model_files import check_model_folder
from lensllm.zoo import ZOO_DIR, zoo_models

MOST = 1000  # candidates that are looked at


def refuse_hopeless(cfg: DictConfig) -> None:
    """Refuse a run none of whose candidates can be tried, before it loads data and libraries.

    Candidates that are no local folders pass: the Hub is asked later. Some that cannot be tried
    beside others that can are left out later, with the same words.

    Args:
        cfg: The composed configuration, not checked yet.

    Raises:
        NoCandidateError: No candidate of a campaign can be tried; with all reasons.
        ValueError: The one candidate of a trial cannot be tried.
    """
    try:
        sources = OmegaConf.to_container(cfg.runner.sources, resolve=True)
        prompt = cfg.training.prompt
    except (OmegaConfBaseException, AttributeError, ValueError):
        return  # a replay has none; what else is wrong is told by the checks that follow
    items = list(sources.values() if isinstance(sources, Mapping) else sources or ())[:MOST]
    found = {str(_name(item)): _refusal(item, prompt) for item in items}
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


def _refusal(item: Any, prompt: str) -> str:
    """Why a candidate cannot be tried; empty where its files do not tell."""
    text = item.get("source") if isinstance(item, Mapping) else item
    source = re.sub(r"\+(full|lora|qlora)$", "", str(text))
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
        return True  # loading the tokenizer tells
    return not isinstance(settings, dict) or bool(settings.get("chat_template"))
