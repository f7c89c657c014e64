"""A fine-tuned model on disk, as `from_pretrained` and inference servers read it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from lensllm.finetune.adapter_folders import WEIGHTS, merge_adapter
from lensllm.finetune.adapters import FULL
from lensllm.finetune.models import ModelSource
from lensllm.system.atomic import StorageError, storage_words


def check_free(folder: Path) -> None:
    """Refuse a path at which a model folder cannot be made.

    Raises:
        ValueError: Something is there already.
        StorageError: Nothing can be written there.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"Expected a new or an empty folder for the model, got {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        probe = folder.parent / f".writing-{uuid.uuid4().hex}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise StorageError(storage_words(folder, error)) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder, renamed to `folder` if the block succeeds and removed otherwise.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    writing = folder.parent / f".writing-{uuid.uuid4().hex}"
    try:
        writing.mkdir(parents=True)
        yield writing
        if folder.is_dir():
            folder.rmdir()
        writing.rename(folder)
    except OSError as error:
        raise StorageError(storage_words(folder, error)) from error
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def write_model_folder(
    folder: Path, model: Any, tokenizer: Any, source: ModelSource, merge: bool = False
) -> None:
    """Write weights (safetensors), configuration, tokenizer and chat template.

    Full fine-tuning leaves a model of its own. LoRA and QLoRA leave an adapter that names its base,
    as peft reads it, or, with `merge`, a model of its own with the adapter in its weights.

    Args:
        folder: A new or an empty folder; it is written completely or not at all.
        model: The fine-tuned model.
        tokenizer: Its tokenizer.
        source: The candidate that was fine-tuned.
        merge: Whether adapters are added to the weights.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with whole_folder(folder) as writing:
        if (source.finetune or FULL).is_full:
            model.save_pretrained(writing)
        else:
            _write_adapter(writing, model, source)
        # If the candidate was an adapter itself, its merged base is not on disk.
        if (merge or source.base is not None) and not (source.finetune or FULL).is_full:
            merged = merge_adapter(replace(source, finetune=None).load_model(), writing)
            shutil.rmtree(writing)
            writing.mkdir()
            merged.save_pretrained(writing)
        tokenizer.save_pretrained(writing)


def _write_adapter(folder: Path, model: Any, source: ModelSource) -> None:
    """The adapters of a model as peft writes them."""
    from peft import get_peft_model_state_dict

    config = model.peft_config["default"]
    config.base_model_name_or_path = source.location
    config.inference_mode = True
    config.task_type = "SEQ_2_SEQ_LM" if source.is_encoder_decoder else "CAUSAL_LM"
    state = get_peft_model_state_dict(model)
    save_file(
        {f"base_model.model.{name}": weight.contiguous() for name, weight in state.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    config.save_pretrained(str(folder))
