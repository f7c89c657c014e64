"""Fetch the text of an optional task into the cache."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lensllm.commands.config import FetchConfig
from lensllm.commands.entry import entry_point


@entry_point("fetch", FetchConfig)
def main(cfg: DictConfig) -> None:
    """Fetch one task and say where it is."""
    from lensllm.data.fetched import fetch

    # The config choice itself, since data sets that cannot be fetched have no `name`.
    name = HydraConfig.get().runtime.choices["dataset"]
    path, n_pairs = fetch(str(name), cfg.paths.cache_dir)
    print(f"{n_pairs} pairs in {path}")
