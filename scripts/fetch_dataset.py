"""Fetch the text of an optional task into the cache: scripts/fetch_dataset.py dataset=wiki."""

from __future__ import annotations

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lensllm.commands.config import FetchConfig
from lensllm.commands.entry import entry_point


@entry_point("fetch", FetchConfig)
def main(cfg: DictConfig) -> None:
    """Fetch one task and say where it is."""
    from lensllm.data.fetched import fetch

    # The choice itself: data sets that cannot be fetched have no name of their own.
    name = HydraConfig.get().runtime.choices["dataset"]
    path, n_pairs = fetch(str(name), cfg.paths.cache_dir)
    print(f"{n_pairs} pairs in {path}")


if __name__ == "__main__":
    main()
