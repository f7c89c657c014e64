"""The documentation site builds without a warning, every notebook runs, and nothing is left out."""

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

import lensllm

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_runs_the_notebooks(tmp_path):
    site = tmp_path / "html"
    build = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *build, str(DOCS), str(site)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for path in NOTEBOOKS:
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "cell_output" in page, f"{path.stem} shows no output"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_text_and_code_without_outputs(path):
    cells = jupytext.read(path, fmt="py:percent").cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert {cell.cell_type for cell in cells} == {"markdown", "code"}
    assert not any(cell.get("outputs") for cell in cells)


def test_every_public_name_is_in_the_api():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    listed = re.findall(r"^\.\. auto\w+:: lensllm\.(\w+)$", pages, re.MULTILINE)
    assert sorted(listed) == sorted(lensllm.__all__)
