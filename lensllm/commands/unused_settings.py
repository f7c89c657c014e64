"""Refuse settings that a command was given and that its runner does not read.

A runner's YAML file refers to what it reads of the rest of the configuration, as in `${dataset}`;
what it refers to neither itself nor through another part, such as the selector, has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir

_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")
# Empty unless somebody asks for them, so that a value counts even from a file.
_EMPTY = ("limits", "keep_weights")
# What a replay has in place of a part that it does not read, and why.
_OF_REPLAYS = {
    "dataset": ("replay.dataset=NAME", "no data are read, curves recorded on some are looked up"),
    "candidates": ("replay.models=[NAME,...]", "the candidates are those that were recorded"),
    "seed": ("replay.seed=NUMBER", "the seeds are those that were recorded"),
}


def refuse_unused(config: DictConfig, given: Mapping[str, Any]) -> None:
    """Refuse settings that the runner of the configuration does not read.

    Args:
        config: The configuration.
        given: Values of the keys that the user set directly.

    Raises:
        ValueError: There is one; the message says what to give in its place.
    """
    if "_target_" not in (config.get("runner") or {}):
        return
    runners = _runners()
    raw: Any = OmegaConf.to_container(config)
    inputs = {key.partition(".")[0] for _, keys in runners.values() for key in keys} - {"paths"}
    if "replay" not in raw:  # other commands have uses of their own for a benchmark
        inputs.discard("benchmark")
    own = set(raw) - inputs
    if "data" in raw["runner"]:
        own.add("logger")  # also of the campaign
    read = _read(raw, own)
    asked = {**given, **{key: raw.get(key) for key in _EMPTY}}
    for key, value in asked.items():
        for name, item in _set(key, value, raw):
            if name.partition(".")[0] in inputs and not _overlaps(name, read):
                raise ValueError(_words(name, item, raw["runner"]["_target_"], runners))


def _set(key: str, value: Any, raw: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A key with its value, unless that asks for nothing; each of the limits that are set."""
    if key == "limits":
        limits = raw.get(key) or {}
        return [(f"{key}.{name}", item) for name, item in limits.items() if item and name[0] != "_"]
    return [(key, value)] if _at(raw, key) else []


def _runners() -> dict[str, tuple[str, set[str]]]:
    """Name and referred keys of the project's runners, by their targets."""
    found = {}
    for path in sorted((conf_dir() / "runner").glob("*.yaml")):
        settings = OmegaConf.to_container(OmegaConf.load(path))
        found[settings["_target_"]] = (path.stem, _references(settings))  # type: ignore[index, call-overload]
    return found


def _references(part: Any) -> set[str]:
    return set(_REFERENCE.findall(str(part)))


def _read(raw: Mapping[str, Any], keys: Iterable[str]) -> set[str]:
    """These keys, and all that their parts of the configuration refer to."""
    found: set[str] = set()
    left = list(keys)
    while left:
        if (key := left.pop()) not in found:
            found.add(key)
            left += _references(_at(raw, key))
    return found


def _at(raw: Any, key: str) -> Any:
    """The part of a configuration at a key; `None` if there is none."""
    for name in key.split("."):
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw


def _overlaps(key: str, read: Iterable[str]) -> bool:
    """Whether one of the keys is this one, a part of it, or has it as a part."""
    return any(f"{key}.".startswith(f"{one}.") or one.startswith(f"{key}.") for one in read)


def _words(key: str, value: Any, target: str, runners: Mapping[str, tuple[str, set[str]]]) -> str:
    """What to give in place of a key."""
    name = runners[target][0] if target in runners else ""
    chosen = f"runner={name}" if name else f"the runner {target}"
    group = key.partition(".")[0]
    if name == "replay" and group in _OF_REPLAYS:
        instead, why = _OF_REPLAYS[group]
        return f"Expected {instead} with {chosen}, got {key}={value}: {why}"
    users = [f"runner={stem}" for stem, keys in runners.values() if _overlaps(key, keys)]
    way = "give it to your program, in runner.command or its files" if name == "command" else ""
    return (
        f"Expected {' or '.join(users)} with {key}, got {key}={value} with {chosen}, which does "
        f"not use it: {way or 'leave it out'}"
    )
