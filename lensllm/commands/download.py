"""Download and verify the recorded benchmark."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import DownloadConfig
from lensllm.commands.entry import entry_point


@entry_point("download", DownloadConfig)
def main(cfg: DictConfig) -> None:
    """Download what is missing to `<paths.benchmark_dir>/rsl` and verify all of it."""
    from lensllm.evaluation import download_rsl

    for path in download_rsl(Path(cfg.paths.benchmark_dir) / "rsl", cfg.timeout):
        print(f"verified {path}")
