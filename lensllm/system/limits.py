"""Limits of size: a small text can stand for a configuration that fills the memory."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

MAX_BYTES = 5_000_000  # of a YAML file
MAX_NODES = 100_000  # of a configuration, every alias and interpolation followed
MAX_DEPTH = 40
_NAMES = re.compile(r"(^|\.)(models|datasets)\[\d+\]$|(^|\.)name$|(^|\.)replay\.dataset$")
_HYDRA_TARGETS = ("hydra._internal.", "hydra_plugins.")


def walk(config: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of all members of a configuration, interpolations followed.

    Missing values and those that cannot be resolved come as `None`.

    Raises:
        ValueError: There are more members than `MAX_NODES`, or more levels than `MAX_DEPTH`.
    """
    n_nodes = 0
    pending: deque[tuple[str, int, Any]] = deque([("", 0, config)])
    while pending:
        # Breadth first, so that a member that others refer to comes under its own key first.
        path, depth, node = pending.popleft()
        n_nodes += 1
        if n_nodes + len(pending) > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError(
                f"Expected a configuration of at most {MAX_NODES} nodes and {MAX_DEPTH} levels, "
                f"got more at {path[:80]}: does a part of it refer to itself?"
            )
        if path:
            yield path, node
        if isinstance(node, DictConfig | dict):
            pending += [
                (f"{path}.{key!s}" if path else str(key), depth + 1, _value(node, key))
                for key in node
            ]
        elif isinstance(node, ListConfig | list):
            pending += [(f"{path}[{i}]", depth + 1, _value(node, i)) for i in range(len(node))]


def _value(node: Any, key: Any) -> Any:
    try:
        if OmegaConf.is_config(node) and OmegaConf.is_missing(node, key):
            return None
        return node[key]
    except (OmegaConfBaseException, RecursionError):
        return None  # the code that needs it reports which one


def parse_yaml(text: str, source: str | Path) -> Any:
    """Parse YAML as OmegaConf does, within limits of size.

    Args:
        text: The YAML.
        source: What to call it in an error message.

    Returns:
        Plain lists and mappings, in which parts may be the same object (aliases).

    Raises:
        ValueError: It is no YAML, or too large once its aliases are written out.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"Expected at most {MAX_BYTES} characters of YAML in {source}, got more")
    tree = None
    try:
        tree = yaml.load(text, Loader=get_yaml_loader())
        size = _size(tree, 0, {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(f"Expected YAML in {source}, got: {error}") from error
    except RecursionError:
        size = MAX_NODES + 1
    if not isinstance(tree, dict | list | None):
        raise ValueError(f"Expected keys and values, or a list, in {source}, got {tree!r}")
    if size > MAX_NODES:
        raise ValueError(
            f"Expected YAML of at most {MAX_NODES} nodes and {MAX_DEPTH} levels in {source}, its "
            "aliases written out, got more: do they refer to each other?"
        )
    return tree


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file into an OmegaConf configuration, within limits of size.

    Raises:
        ValueError: See `parse_yaml`; or it is no UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected UTF-8 text in {path}, got: {error}") from error
    tree = parse_yaml(text, path)
    return OmegaConf.create() if tree is None else OmegaConf.create(tree)


def _size(tree: Any, depth: int, known: dict[int, int]) -> int:
    """Nodes of a tree with aliases written out; each object is looked at once."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = MAX_NODES + 1  # while it is visited: what contains itself has no end
        members = tree.values() if isinstance(tree, dict) else tree
        total = 1 + sum(_size(member, depth + 1, known) for member in members)
        known[id(tree)] = min(total, MAX_NODES + 1)
    return known[id(tree)]


@contextmanager
def bounded_yaml() -> Iterator[None]:
    """Within this block, Hydra reads YAML files by `parse_yaml` and refuses what runs code.

    Hydra builds its own part (`hydra`: loggers, callbacks, sweepers) before an entry point sees a
    configuration, so that this part is looked at file by file.
    """

    class Bounded(OmegaConf):
        @staticmethod
        def load(file_: Any) -> Any:
            text = file_.read()
            text = text.decode("utf-8") if isinstance(text, bytes) else text
            source = getattr(file_, "name", "a configuration file")
            tree = parse_yaml(text, source)
            _check_file(tree, str(source))
            return OmegaConf.create() if tree is None else OmegaConf.create(tree)

    sources = (file_config_source, importlib_resources_config_source)
    for module in sources:
        module.OmegaConf = Bounded  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in sources:
            module.OmegaConf = OmegaConf  # type: ignore[attr-defined]


def _check_file(tree: Any, source: str) -> None:
    """Refuse files that name code for Hydra itself to run, or that set `allowed_targets`.

    Names that YAML reads as numbers are refused too: 1.10 and 1.1 would be the same.
    """
    within = "hydra." if "hydra" in Path(source).parts[:-1] else ""
    for key, value in walk(tree):
        if isinstance(value, float) and _NAMES.search(key):
            raise ValueError(
                f"Expected a name as {key} in {source}, got the number {value}: put it in quotes"
            )
        name = key.rpartition(".")[2]
        is_hydra = f"{within}{key}".startswith("hydra.") and isinstance(value, str)
        problem = (
            (name == "allowed_targets" and bool(value))
            or name == "()"
            or (is_hydra and name == "_target_" and not value.startswith(_HYDRA_TARGETS))
            or (is_hydra and name == "class" and not value.startswith("logging."))
        )
        if problem:
            raise ValueError(
                f"Expected no code of its own in the configuration file {source}, got {key}: "
                f"{value}; what you trust goes into the command ('allowed_targets=[my_package]')"
            )
