"""List what runs left on disk beside finished trials, and remove it on request."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import CleanConfig
from lensllm.commands.entry import entry_point


@entry_point("clean", CleanConfig)
def main(cfg: DictConfig) -> None:
    """Print one line per leftover and a sum; remove them with `delete=true`."""
    from lensllm.core.trials import TrialStore
    from lensllm.execution.leftovers import find_leftovers, prune
    from lensllm.reports.console import say

    store, cache = TrialStore(cfg.paths.store_dir), Path(cfg.paths.cache_dir)
    found = find_leftovers(store, cache, cfg.older_than_days)
    found = [item for item in found if item.kind in cfg.kinds]
    for item in found:
        keep = "kept" if item.is_in_use else "    "
        size, age = f"{item.n_bytes / 1e6:10.1f} MB", f"{item.age_days:6.1f} days"
        say(f"{keep} {size} {age}  {item.kind:10}  {item.path} ({item.state})")
    unused = [item for item in found if not item.is_in_use]
    total = sum(item.n_bytes for item in unused) / 1e6
    if cfg.delete:
        say(f"removed {len(unused)} of {len(found)}, {prune(unused) / 1e6:.1f} MB")
    else:
        way = ": lensllm clean delete=true removes them" if unused else ""
        say(f"{len(unused)} of {len(found)} can be removed, {total:.1f} MB{way}")
