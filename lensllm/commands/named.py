"""Selectors by the names of their YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from lensllm.selectors.base import Selector
from lensllm.system.limits import load_yaml


def named_selectors(
    entries: Sequence[str | Mapping[str, Mapping[str, Any]]],
    folder: str | Path,
    context: Mapping[str, Any] | None = None,
) -> list[Selector]:
    """Instantiate selectors from the group of YAML files.

    Args:
        entries: Names (`ats`), or names with settings (`{ats: {k: 4}}`).
        folder: Folder of the YAML files, each with a `_target_` and its settings.
        context: What the YAML files may refer to (`${paths.store_dir}`, ...), unresolved.

    Returns:
        The selectors in their order.

    Raises:
        ValueError: There is no such selector, or it has no such setting.
    """
    folder = Path(folder)
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    selectors = []
    for entry in entries:
        pairs = {entry: {}} if isinstance(entry, str) else dict(entry)
        if len(pairs) != 1 or next(iter(pairs)) not in known:
            raise ValueError(
                f"Expected `selectors` among {', '.join(known)} (or one of them with settings, as "
                f"{{ats: {{k: 4}}}}), got {entry!r}"
            )
        name, settings = next(iter(pairs.items()))
        config = load_yaml(folder / f"{name}.yaml")
        extra = sorted(set(settings) - set(config))
        if extra:
            have = ", ".join(str(key) for key in config if key != "_target_") or "none"
            raise ValueError(f"Expected settings of {name!r} among {have}, got {extra[0]!r}")
        whole = OmegaConf.create({**(context or {}), "_selector": config})
        selectors.append(instantiate(OmegaConf.merge(whole, {"_selector": settings})._selector))
    return selectors
