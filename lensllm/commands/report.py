"""Write the report of a finished campaign."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import ReportConfig
from lensllm.commands.entry import entry_point


@entry_point("report", ReportConfig, positional="folder")
def main(cfg: DictConfig) -> None:
    """Write one HTML page from the campaign's files, and print where it is."""
    from lensllm.reports.console import say
    from lensllm.reports.html_report import write_report

    page = write_report(Path(cfg.folder), Path(cfg.path) if cfg.path else None)
    say(f"report: {page}")
