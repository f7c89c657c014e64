"""Selectors by the names of their YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lensllm.commands.targets import check_targets
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
        folder: Folder of the YAML files, each with a `_target_` and its settings; the folder of the
            same name in the command's `--config-dir` counts as well.
        context: Values that the YAML files may refer to (`${paths.store_dir}`, ...), unresolved.

    Returns:
        The selectors, in the order of the entries.

    Raises:
        ValueError: There is no such selector, it has no such setting, or a file would build an
            object that is not on the allow-list.
    """
    known = {path.stem: path for path in _files(Path(folder))}
    allowed = (context or {}).get("allowed_targets") or ()
    selectors = []
    for entry in entries:
        pairs = {entry: {}} if isinstance(entry, str) else dict(entry)
        if len(pairs) != 1 or next(iter(pairs)) not in known:
            raise ValueError(
                f"Expected `selectors` among {', '.join(sorted(known))} (or one of them with "
                f"settings, as {{ats: {{k: 4}}}}), got {entry!r}"
            )
        name, settings = next(iter(pairs.items()))
        config = load_yaml(known[name])
        extra = sorted(set(settings) - set(config))
        if extra:
            have = ", ".join(str(key) for key in config if key != "_target_") or "none"
            raise ValueError(f"Expected settings of {name!r} among {have}, got {extra[0]!r}")
        whole = OmegaConf.create({**(context or {}), "_selector": config})
        chosen = OmegaConf.merge(whole, {"_selector": settings})._selector
        check_targets(chosen, allowed)
        selectors.append(instantiate(chosen))
    return selectors


def _files(folder: Path) -> list[Path]:
    """YAML files of a group: of the command's `--config-dir`, then, before these, the program's."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    own = [Path(source.path) for source in sources if source.provider == "command-line"]
    return [path for top in (*own, folder.parent) for path in (top / folder.name).glob("*.yaml")]
