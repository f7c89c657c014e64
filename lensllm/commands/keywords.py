"""The configuration of a command from the keywords of a function call.

A keyword is the last part of a key: `batch_size` is `training.batch_size`. The name of a group
takes the name of one of its files, or a dict of its settings.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from lensllm.commands.conf import command_module, conf_dir
from lensllm.commands.config_checks import unknown_key
from lensllm.commands.short_names import short_names
from lensllm.system.limits import bounded_yaml


def compose(command: str, choices: Mapping[str, str]) -> DictConfig:
    """The configuration of a command, as its YAML files say, without any of Hydra's global state.

    So it works in a notebook, inside another Hydra application, and any number of times.

    Args:
        command: Its name.
        choices: Names of files, by group.

    Raises:
        HydraException: There is no such group or file.
    """
    importlib.import_module(command_module(command))  # which stores its schema
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    words = [f"{group}={name}" for group, name in choices.items()]
    with bounded_yaml():
        cfg = loader.load_configuration(command, words, RunMode.RUN, from_shell=False)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def configure(command: str, options: Mapping[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration with the values of keywords.

    Args:
        command: Name of the command.
        options: Values by keyword. A group takes the name of one of its files, or a list of them; a
            dict of its settings; or a dict from the name of a file to such a dict, as in
            {"ats": {"k": 4}}.

    Returns:
        The configuration, and what the keywords set, by full keys and by groups.

    Raises:
        TypeError: There is no such keyword; the message has the nearest one.
        ValueError: A group has no such file.
    """
    choices: dict[str, str] = {}
    given: dict[str, Any] = {}
    for name, value in options.items():
        given[name] = value
        if (conf_dir() / name).is_dir():
            choice, given[name] = _group(name, value)
            choices |= choice
    cfg = compose(command, choices)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping) and OmegaConf.is_dict(cfg.get(name)):
            values |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            values[_key(cfg, name)] = value
    for key, value in values.items():
        added = key.rpartition(".")[2].startswith("+")  # an argument that the YAML file lacks
        try:
            OmegaConf.update(cfg, key.replace("+", ""), _listed(value), force_add=added)
        except (ConfigAttributeError, ConfigKeyError) as error:
            raise TypeError(unknown_key(error, f"{{'+{error.key}': ...}}")) from error
    return cfg, {key.replace("+", ""): value for key, value in (values | choices).items()}


def _listed(value: Any) -> Any:
    """A value with lists in place of tuples and texts in place of paths."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _group(name: str, value: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """The choice and the settings of a group that a keyword gives."""
    known = sorted(path.stem for path in (conf_dir() / name).glob("*.yaml"))
    if isinstance(value, list | tuple) and value and set(value) <= set(known):
        return {name: f"[{','.join(value)}]"}, {}
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"Expected one of {', '.join(known)}, or a dict of settings, as {name}, got {value!r}"
        )
    chosen = next(iter(value), None)
    if len(value) == 1 and isinstance(value[chosen], Mapping):
        if chosen not in known:
            raise ValueError(f"Expected {name} among {', '.join(known)}, got {chosen!r}")
        return {name: str(chosen)}, dict(value[chosen])
    return {}, dict(value)


def _key(cfg: DictConfig, name: str) -> str:
    """The full key that a keyword means."""
    known = short_names(cfg) | {str(key): str(key) for key in cfg}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    way = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    raise TypeError(f"Expected an option, got {name!r}: {way}")
