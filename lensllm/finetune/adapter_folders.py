"""Folders with a PEFT adapter: its base model, and merging the two."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from lensllm.finetune.model_files import check_texts, check_weights
from lensllm.zoo import zoo_models

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# PEFT types that can be merged into the weights of their base model.
MERGEABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "IA3", "FOURIERFT", "HRA")


def adapter_base(folder: Path) -> str | None:
    """Base model named in an adapter's folder; `None` for other folders.

    Args:
        folder: A folder.

    Returns:
        Path of a folder, name of a zoo model, or the id of a model in the local cache of the Hub:
        nothing is downloaded because an adapter names it.

    Raises:
        ValueError: The adapter is incomplete, is of a type that cannot be merged, or its base is
            not available.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, base = str(config["peft_type"]), str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected a JSON object with peft_type and base_model_name_or_path in {path}, got "
            f"{error!r}"
        ) from error
    if kind not in MERGEABLE or config.get("megatron_config"):
        raise ValueError(
            f"Expected an adapter that can be added to its model's weights in {folder}, such as "
            f"LoRA, got type {kind}: name its base {base!r} as the candidate"
        )
    if not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"Expected the adapter's weights as {WEIGHTS} in {folder}, found none: save it again "
            "with peft's `save_pretrained`"
        )
    check_weights(folder / WEIGHTS)
    check_texts(folder)
    return _base_in_reach(folder, base)


def _base_in_reach(folder: Path, base: str) -> str:
    # Not at import: every command checks its candidates' files, also where nothing fine-tunes.
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if base in zoo_models():
        return base
    for place in (Path(base).expanduser(), folder / base):
        if place.is_dir():
            return str(place)
    try:
        found = try_to_load_from_cache(base, "config.json")
    except HFValidationError:
        found = None
    if isinstance(found, str):
        return base
    raise ValueError(
        f"Expected the base of the adapter in {folder} as a local folder, a zoo model or in the "
        f"local cache of the Hub, got {base!r}, which is none of them: download it first (`hf "
        f"download {base}`), or write where it is as base_model_name_or_path into {CONFIG}"
    )


def merge_adapter(model: Any, folder: Path) -> Any:
    """Merge an adapter into the weights of its base model.

    Args:
        model: The base, loaded; it is changed.
        folder: The adapter's folder, checked by `adapter_base`.

    Returns:
        The model with the adapter in its weights.

    Raises:
        ValueError: The adapter does not fit the base.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted = PeftModel.from_pretrained(model, folder, use_safetensors=True)
            return adapted.merge_and_unload()
    except (RuntimeError, ValueError, UserWarning, KeyError) as error:
        raise ValueError(
            f"Expected an adapter of {type(model).__name__} in {folder} that fits its base, got: "
            f"{str(error)[:300]}"
        ) from error
