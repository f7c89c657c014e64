"""Candidates as a user gives them: texts, sources, and models with settings of their own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from lensllm.finetune.adapters import FULL, AdapterConfig, split_method
from lensllm.finetune.models import ModelSource

Given = ModelSource | str | Mapping[str, Any]
# Settings of a candidate that has some of its own: those of its source, and what may be a list.
_LISTS = ("lr", "finetune")
_KEYS = ("source", "name", "revision", "dtype", "gated", "notes", *_LISTS)


def as_sources(
    given: Sequence[Given] | Mapping[str, Given], finetune: AdapterConfig = FULL
) -> list[ModelSource]:
    """Candidates as a user gives them: sources, strings that name one, or mappings with settings.

    `{source: gpt2, lr: [1e-4, 3e-4], finetune: [full, lora]}` stands for four candidates, which are
    the arms of one model: `gpt2 lr=0.0001`, `gpt2 lr=0.0003`, `gpt2+lora lr=0.0001`, ... A method
    may have settings: `finetune: {method: lora, rank: 8}`.

    Args:
        given: A sequence or a mapping (whose keys are ignored). `gpt2+lora` is `gpt2` with
            adapters.
        finetune: Fine-tuning of candidates that do not specify it; also the rank and so on of
            strings that name the same method.

    Returns:
        Sources; a name includes the fine-tuning method unless it is `full`. Folders with the same
        name (`a/checkpoint-500`, `b/checkpoint-500`) get as much of their paths as tells them
        apart.

    Raises:
        ValueError: A setting is unknown, given twice or out of its range; the message names it.
    """
    items = given.values() if isinstance(given, Mapping) else given
    return _told_apart([source for item in items for source in _arms(item, finetune)])


def _told_apart(sources: list[ModelSource]) -> list[ModelSource]:
    """Sources whose names are those of their folders, longer where two share one."""
    for n_parts in range(2, 8):
        folders: dict[str, set[Path]] = {}
        for source in sources:
            folders.setdefault(source.name, set()).add(Path(source.source).resolve())
        sources = [
            replace(source, name=source.name_of(n_parts))
            if len(folders[source.name]) > 1 and source.name == source.name_of(n_parts - 1)
            else source
            for source in sources
        ]
    return sources


def _arms(item: Given, default: AdapterConfig) -> Iterator[ModelSource]:
    """The candidates that one entry stands for."""
    if not isinstance(item, Mapping):
        yield _as_source(item, default)
        return
    _check_keys(item)
    text, named = split_method(str(item["source"]))
    if named is not None and "finetune" in item:
        raise ValueError(
            f"Expected the method of {text!r} once, got {item['source']!r} and finetune="
            f"{item['finetune']!r}: leave one of them out"
        )
    methods = [
        _method(method, default, text) for method in _listed(item, "finetune", named or default)
    ]
    own = {key: item[key] for key in item if key not in ("source", "name", *_LISTS)}
    for method, rate in product(methods, _listed(item, "lr", None)):
        label = "" if rate is None else f"lr={_rate(rate, text):g}"
        if rate is not None and method.learning_rate is not None:
            raise ValueError(
                f"Expected one learning rate of {text!r}, got lr={rate} and finetune."
                f"learning_rate={method.learning_rate}: leave one of them out"
            )
        finetune = method if rate is None else replace(method, learning_rate=float(rate))
        source = ModelSource(text, **own, finetune=finetune, label=label)
        name = item.get("name")
        yield replace(source, name=f"{name}{source.suffix}") if name else source


def _check_keys(item: Mapping[str, Any]) -> None:
    for key in item:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            way = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KEYS)}"
            raise ValueError(f"Expected a setting of a candidate, got {key!r}: {way}")
    if not item.get("source"):
        raise ValueError(f"Expected a source in the candidate {dict(item)}, got none")


def _listed(item: Mapping[str, Any], key: str, default: Any) -> list[Any]:
    """The values of a setting that may be a list, each once; the default if it is not given."""
    value = item.get(key)
    if value is None:
        return [default]
    values = (
        [value] if isinstance(value, str | Mapping) or not isinstance(value, Sequence) else value
    )
    if not values:
        raise ValueError(f"Expected at least one {key} of {item['source']!r}, got an empty list")
    for i, one in enumerate(values):
        if one in values[:i]:
            raise ValueError(f"Expected each {key} of {item['source']!r} once, got {one!r} twice")
    return list(values)


def _method(method: Any, default: AdapterConfig, source: str) -> AdapterConfig:
    """A way of fine-tuning: a name, settings, or what the runner has."""
    if isinstance(method, AdapterConfig):
        return method
    if isinstance(method, str):
        return default if method == default.method else AdapterConfig(method)  # type: ignore[arg-type]
    known = [field.name for field in fields(AdapterConfig)]
    unknown = (
        [key for key in method if key not in known] if isinstance(method, Mapping) else [method]
    )
    if unknown:
        raise ValueError(
            f"Expected the finetune of {source!r} to be full, lora or qlora, or settings among "
            f"{', '.join(known)}, got {unknown[0]!r}"
        )
    return AdapterConfig(**method)


def _rate(rate: Any, source: str) -> float:
    """A learning rate, checked."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise ValueError(f"Expected lr > 0 of {source!r}, got {rate!r}")
    return float(rate)


def _as_source(item: ModelSource | str, default: AdapterConfig) -> ModelSource:
    if isinstance(item, str):
        text, method = split_method(item)
        if method is None:
            return _as_source(ModelSource(text), default)
        return ModelSource(text, finetune=_method(method, default, text))
    if item.finetune is not None or default == FULL:
        return item
    return replace(item, name=item.name + default.suffix, finetune=default)
