"""The allow-list of `_target_`, which is checked before a configuration builds anything.

A YAML file names classes and functions that Hydra calls with arguments from the same file, so a
file from elsewhere could load a pickle, delete a folder or run a command. Allowed are

- the components of this package: its public classes, and its functions `load_...` and `make_...`;
- optimizers and learning-rate schedules of torch, and schedules of transformers;
- Lightning's trainer, callbacks, loggers, strategies, accelerators, plugins and profilers;
- whatever lies in modules that the user names on the command line, `allowed_targets=[my_package]`;
  only these may have a function that is a measure, `measure=my_package:my_function`.

The targets of the project's own YAML files are known to be allowed (a test checks each of them) and
are not imported here, so that a replay needs no torch.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Sequence
from typing import Any

from lensllm.commands.conf import conf_dir
from lensllm.system.limits import walk

_ROOTS = ("lensllm", "torch.optim", "pytorch_lightning", "lightning", "transformers")
_PACKAGES = (
    "core",
    "curvature",
    "data",
    "evaluation",
    "execution",
    "finetune",
    "laws",
    "predictors",
    "prehoc",
    "selectors",
)
# Keys of measures, by name or position, and measures that are functions `module:function`.
_MEASURE = re.compile(r"(^|\.)((measure|also\[\d+\])(\.name)?$|_args_\[)")
_FUNCTION = re.compile(r"[\w.]+:\w+")
_FUNCTIONS = ("comparable_laws", "replay_runner", "warmup_schedule", "with_label_noise")


def check_targets(config: Any, allowed: Sequence[str] = ()) -> None:
    """Raise an error if a configuration would build an object that is not on the allow-list.

    Args:
        config: The composed configuration; interpolations are followed.
        allowed: Modules that the user trusts, with everything in them.

    Raises:
        ValueError: A target is not allowed (the message has its key and what to do), or the
            configuration is too large.
    """
    for module in allowed:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
            raise ValueError(
                f"Expected names of modules in allowed_targets, such as my_package, got {module!r}"
            )
    for key, target in walk(config):
        is_function = isinstance(target, str) and _FUNCTION.fullmatch(target) is not None
        if is_function and _MEASURE.search(key):
            _check_function(key, target, allowed)
        if key.rpartition(".")[2] != "_target_":
            continue
        refusal = _refusal(target, tuple(allowed)) if isinstance(target, str) else "no name"
        if refusal:
            raise ValueError(
                f"Expected a component of lensllm, a torch optimizer or schedule, or a part of "
                f"Lightning as {key}, got {target!r} ({refusal}): a configuration may build "
                "nothing else; if you trust it, name its module in the command, as in "
                "'allowed_targets=[my_package]'"
            )


def _check_function(key: str, name: str, allowed: Sequence[str]) -> None:
    """Check that a measure `module:function` is of a module that the command names."""
    module = name.partition(":")[0]
    if not _within(module, allowed):
        raise ValueError(
            f"Expected a measure of lensllm as {key}, got the function {name!r}: a configuration "
            "may call nothing else; if you trust it, name its module in the command, as in "
            f"'allowed_targets=[{module}]'"
        )


@functools.lru_cache(maxsize=1024)
def _refusal(target: str, allowed: tuple[str, ...]) -> str:
    """Why a target is refused; empty if it is allowed. Imports only allowed modules."""
    if not _within(target, (*_ROOTS, *allowed)):
        return "not on the list"
    if target in _own_targets():
        return ""
    try:
        found = _locate(target)
    except (ImportError, AttributeError, ValueError) as error:
        return f"not found: {error}"
    module = str(getattr(found, "__module__", None) or type(found).__module__)
    if _within(module, allowed) and callable(found):
        return ""
    name = str(getattr(found, "__qualname__", type(found).__name__))
    if inspect.isclass(found):
        good = _is_component(module) or _is_part(found)
    else:
        good = inspect.isfunction(found) and (
            (_is_component(module) and (name in _FUNCTIONS or name.startswith(("load_", "make_"))))
            or (module == "transformers.optimization" and name.startswith("get_"))
        )
    public = not any(part.startswith("_") for part in name.split("."))
    return "" if good and public else f"it is {module}.{name}"


@functools.cache
def _own_targets() -> frozenset[str]:
    """The targets of the project's own YAML files, except those for Hydra itself."""
    texts = (path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"_target_: ([\w.]+)", text))


def _within(name: str, modules: Sequence[str]) -> bool:
    """Whether a dotted name is one of the modules or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _is_component(module: str) -> bool:
    return _within(module, [f"lensllm.{package}" for package in _PACKAGES])


def _is_part(found: type) -> bool:
    """Whether a class is one of the kinds of torch or Lightning that make up a training run."""
    module = found.__module__
    if _within(module, ("torch.optim",)):
        import torch

        return issubclass(found, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler)
    if not _within(module, ("pytorch_lightning", "lightning_fabric", "lightning")):
        return False
    import pytorch_lightning as pl
    from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
    from pytorch_lightning.accelerators import Accelerator
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.profilers import Profiler
    from pytorch_lightning.strategies import Strategy

    kinds = (
        pl.Trainer,
        pl.Callback,
        Logger,
        Strategy,
        Accelerator,
        Precision,
        CheckpointIO,
        ClusterEnvironment,
        Profiler,
    )
    return issubclass(found, kinds)


def _locate(target: str) -> Any:
    """The object of a dotted name, imported as necessary."""
    first, *parts = target.split(".")
    found, path = importlib.import_module(first), first
    for part in parts:
        path = f"{path}.{part}"
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(path)
        found = getattr(found, part)
    return found
