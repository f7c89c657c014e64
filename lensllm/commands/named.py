"""Selectors and laws by the names of their YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lensllm.commands.conf import conf_dir
from lensllm.commands.targets import check_targets
from lensllm.laws import ScalingLaw
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
        whole = OmegaConf.create({**(context or {}), "_chosen": config})
        chosen = OmegaConf.merge(whole, {"_chosen": settings})._chosen
        check_targets(chosen, allowed)
        selectors.append(instantiate(chosen))
    return selectors


def named_laws(names: Sequence[str], context: Mapping[str, Any]) -> tuple[ScalingLaw, ...]:
    """Instantiate the laws of YAML files of the group `law`, each law once.

    Args:
        names: Names (`rectified`, `all`), which Hydra has found already.
        context: As for `named_selectors`.

    Raises:
        ValueError: A law lacks a value, or a file would build an object that is not on the
            allow-list.
    """
    known = {path.stem: path for path in _files(conf_dir() / "law")}
    laws: dict[str, ScalingLaw] = {}
    for name in names:
        whole = OmegaConf.create({**context, "_chosen": load_yaml(known[name])})
        laws |= {law.name: law for law in laws_of(whole._chosen, context)}
    return tuple(laws.values())


def laws_of(config: DictConfig, context: Mapping[str, Any]) -> tuple[ScalingLaw, ...]:
    """The law, or the laws, of one configuration of the group `law`.

    Args:
        config: The configuration.
        context: What has `allowed_targets`.

    Raises:
        ValueError: As `named_laws`.
    """
    missing = sorted(f"law.{key.partition('.')[2]}" for key in OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(
            f"Expected values of {', '.join(missing)}, got none: give them "
            "in the command; law=lensllm needs the weights and rates of the model's NTK "
            "(docs/concepts/ntk.md)"
        )
    check_targets(config, context.get("allowed_targets") or ())
    found = instantiate(config)
    return found if isinstance(found, tuple) else (found,)


def _files(folder: Path) -> list[Path]:
    """YAML files of a group: of the command's `--config-dir`, then, before these, the program's."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    own = [Path(source.path) for source in sources if source.provider == "command-line"]
    return [path for top in (*own, folder.parent) for path in (top / folder.name).glob("*.yaml")]
