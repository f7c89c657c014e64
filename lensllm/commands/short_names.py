"""Short names of settings: the last part of a key, or another word that people use for it."""

from __future__ import annotations

from omegaconf import DictConfig

# Words that people use for keys whose last part is another word.
ALIASES = {
    "epochs": "training.max_epochs",
    "learning_rate": "optimizer.lr",
    "store": "paths.store_dir",
}
# Parts whose keys go without their group's name; the first one that has a key is meant.
_OPEN = ("training", "dataset", "optimizer", "scheduler", "trainer", "runner", "paths")


def short_names(cfg: DictConfig) -> dict[str, str]:
    """Full keys of a configuration by their short names; none of those that refer to other keys."""
    found = {name: key for name, key in ALIASES.items() if key.partition(".")[0] in cfg}
    for part in _OPEN:
        for key in cfg.get(part) or ():
            is_own = part == "paths" or not cfg[part]._get_node(key)._is_interpolation()
            if is_own and not str(key).startswith("_"):
                found.setdefault(str(key), f"{part}.{key}")
    return found
