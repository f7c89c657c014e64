"""Pictures of reports in a browser, for people to look at: a few candidates, thirty, hostile names.

    python scripts/screenshots.py [FOLDER]

Needs playwright, a Chromium (Debian's package, or the path in CHROMIUM) and, for the thirty
candidates, the recorded benchmark, which is downloaded once (or LENSLLM_BENCHMARK_DIR).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lensllm.reports.html_report import write_report

ROOT = Path(__file__).resolve().parent.parent
CAMPAIGNS = {
    "three": ["benchmark=zoo", "replay.models=[gpt2-48x2,llama-64x3,opt-64x2]"],
    "thirty": ["benchmark=rsl"],
}
HOSTILE = {
    "gpt2-48x2": "<img src=x onerror=alert(1)>\u202egpj.exe",
    "llama-64x3": "منظمة/نموذج-عربي-7b",
    "opt-64x2": "日本語/" + "とても長い名前" * 12 + "-" + "x" * 120,
}
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-quic"),
)
VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "print": {"viewport": {"width": 794, "height": 1123}},
    "phone": {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 2},
}


def main(folder: Path) -> None:
    """Replay the campaigns, and take the pictures."""
    from playwright.sync_api import sync_playwright

    pages = {name: replay(folder / name, words) for name, words in CAMPAIGNS.items()}
    pages["hostile"] = renamed(folder / "three", folder / "hostile")
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=list(ARGUMENTS))
        for name, path in pages.items():
            for view, options in VIEWS.items():
                page = browser.new_page(**options)
                page.goto(path.as_uri())
                page.emulate_media(media="print" if view == "print" else "screen")
                page.screenshot(path=folder / f"{name}_{view}.png", full_page=True)
                if view == "print":
                    page.pdf(path=folder / f"{name}.pdf", format="A4", print_background=True)
                page.close()
                print(folder / f"{name}_{view}.png", flush=True)


def replay(folder: Path, words: list[str]) -> Path:
    """The report of a campaign on recorded curves."""
    command = ["-m", "lensllm", "select", "runner=replay", "logger=none", *words]
    subprocess.run(
        [sys.executable, *command, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder / "report.html"


def renamed(campaign: Path, folder: Path) -> Path:
    """The report of the same campaign whose candidates have other names."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (campaign / "selection.json").read_text(encoding="utf-8")
    curves = (campaign / "curves.csv").read_text(encoding="utf-8")
    for name, other in HOSTILE.items():
        text = text.replace(name, json.dumps(other)[1:-1])
        curves = curves.replace(name, f'"{other}"')
    (folder / "selection.json").write_text(text, encoding="utf-8")
    (folder / "curves.csv").write_text(curves, encoding="utf-8")
    return write_report(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/screenshots").resolve())
