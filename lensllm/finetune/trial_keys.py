"""The settings in a trial's key, which determine its outcome, in JSON types.

A setting is in the key, or it is listed here by name because it changes no number, or it is
refused. None is ignored.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lensllm.finetune.adapters import AdapterConfig
from lensllm.system.harmless import redact

# Incremented when the same settings lead to another outcome than before.
RECIPE = 1

# Arguments of a Lightning trainer that change no number.
FREE_TRAINER = (
    "enable_progress_bar",
    "enable_autolog_hparams",
    "model_registry",
    "profiler",
    "limit_predict_batches",
)
# Trainer arguments that a trial sets itself, and the setting to change instead.
OWN_TRAINER = {
    "callbacks": "callbacks=",
    "logger": "logger=",
    "max_epochs": "training.max_epochs",
    "val_check_interval": "training.n_evaluations",
    "check_val_every_n_epoch": "training.n_evaluations",
    "accumulate_grad_batches": "training.micro_batch_size",
    "use_distributed_sampler": "none",
    "enable_checkpointing": "runner.checkpoint_minutes",
    "enable_model_summary": "none",
    "num_sanity_val_steps": "none",
    "log_every_n_steps": "none",
    "default_root_dir": "paths.output_dir",
    "max_time": "trainer.max_steps, which does not depend on the machine's speed",
    "barebones": "none",
    "reload_dataloaders_every_n_epochs": "none",
}
# Trainer arguments that only matter in training, and so not at D = 0.
_TRAINING_TRAINER = (
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "max_steps",
    "min_steps",
    "min_epochs",
)
_PACKAGES = ("torch", "transformers", "tokenizers", "pytorch-lightning")
_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches")
_BOOLEANS = (
    "enable_progress_bar",
    "detect_anomaly",
    "sync_batchnorm",
    "inference_mode",
    "benchmark",
    "tf32",
    "enable_autolog_hparams",
)


def describe(make: Callable[..., Any], what: str = "a component") -> dict[str, Any]:
    """Full name and keywords of a callable or `functools.partial`.

    Args:
        make: What makes an optimizer, a schedule or a trainer.
        what: The config group, for errors.

    Raises:
        ValueError: It cannot be told from another one: it has bound positional arguments, or values
            other than numbers, strings, and lists or mappings of them.

    Example:
        >>> from functools import partial
        >>> describe(partial(sorted, reverse=True))
        {'name': 'builtins.sorted', 'reverse': True}
    """
    keywords: dict[str, Any] = {}
    while isinstance(make, partial):  # perhaps of a partial
        if make.args:
            raise ValueError(f"Expected settings of {what} by name, got {make.args!r} by position")
        keywords = {**make.keywords, **keywords}
        make = make.func
    name = getattr(make, "__qualname__", type(make).__qualname__)
    module = getattr(make, "__module__", type(make).__module__)
    return {
        "name": f"{module}.{name}",
        **{key: _plain(value, f"{what}.{key}") for key, value in keywords.items()},
    }


def trainer_settings(make_trainer: Callable[..., Any], n_samples: int) -> dict[str, Any]:
    """Trainer arguments that affect the outcome of a trial with `n_samples`.

    Raises:
        ValueError: An argument is one that a trial sets by itself, or cannot be described.
    """
    free = FREE_TRAINER if n_samples else (*FREE_TRAINER, *_TRAINING_TRAINER)
    return describe(_without(make_trainer, free), "trainer")


def check_trainer(make_trainer: Callable[..., Any]) -> None:
    """Look at a trainer's arguments before anything is loaded.

    Raises:
        ValueError: An argument is one that a trial sets by itself, is out of its range, or is one
            of which lensllm cannot tell two values apart.
    """
    keywords = dict(getattr(make_trainer, "keywords", {}))
    for name, instead in OWN_TRAINER.items():
        if name in keywords:
            way = "leave it out" if instead == "none" else f"leave it out and set {instead}"
            raise ValueError(f"Expected no trainer.{name}, which a trial sets by itself: {way}")
    for name in _BOOLEANS:
        if keywords.get(name) is not None and not isinstance(keywords[name], bool):
            raise ValueError(f"Expected trainer.{name} to be true or false, got {keywords[name]!r}")
    clip = keywords.get("gradient_clip_val")
    if clip is not None and not (_is_number(clip) and 0 <= clip < math.inf):
        raise ValueError(f"Expected trainer.gradient_clip_val >= 0 or null, got {clip!r}")
    for name in _LIMITS:
        limit = keywords.get(name)
        if limit is not None and not (_is_number(limit) and (limit > 0 or name == _LIMITS[3])):
            raise ValueError(
                f"Expected trainer.{name} > 0, batches or a share of them, got {limit!r}"
            )
    describe(_without(make_trainer, FREE_TRAINER), "trainer")


def environment(finetune: AdapterConfig) -> dict[str, Any]:
    """What else determines the outcome: versions of packages, kind of device, `RECIPE`.

    Args:
        finetune: How the candidate is fine-tuned: adapters depend on another package.
    """
    packages = [*_PACKAGES]
    packages += [] if finetune.is_full else ["peft"]
    packages += ["bitsandbytes"] if finetune.method == "qlora" else []
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {**versions, "recipe": RECIPE}


def device_of(make_trainer: Callable[..., Any]) -> str:
    """Kind of device that a trainer takes: `cpu`, or what CUDA calls the first GPU."""
    accelerator = str(getattr(make_trainer, "keywords", {}).get("accelerator", "auto"))
    if accelerator == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_name(0))


def _without(make: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """A callable without some of the keywords that a partial binds."""
    if not isinstance(make, partial):
        return make
    kept = {key: value for key, value in make.keywords.items() if key not in names}
    return partial(make.func, *make.args, **kept)


def _plain(value: Any, what: str) -> Any:
    """Scalars, lists and mappings as JSON has them."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return redact(value)  # the key is stored, and secrets must not be
    if isinstance(value, int | float | bool) or value is None:
        return value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), what)
    if is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in fields(value)}
        return describe(partial(type(value), **members), what)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{what}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item, what) for item in value]
    if isinstance(value, partial) or (callable(value) and hasattr(value, "__qualname__")):
        return describe(value, what)
    raise ValueError(
        f"Expected numbers, texts, lists or mappings as {what}, got an object of type "
        f"{type(value).__name__}: two of them could not be told apart in a trial's key"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
