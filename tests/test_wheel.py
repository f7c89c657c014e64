"""The wheel: what is inside, and what it does where only its own dependencies are installed."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"lensllm": "lensllm", "conf": "lensllm/conf", "scripts": "lensllm/scripts"}
# As where these packages were never installed.
WITHOUT = """
import sys

class Lacking:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {modules}:
            return self.finder.find_spec(name, path, target)

    def find_distributions(self, *context):
        for found in getattr(self.finder, "find_distributions", lambda *_: ())(*context):
            if found.name.replace("-", "_") not in {modules}:
                yield found

sys.meta_path[:] = map(Lacking, sys.meta_path)
from lensllm.commands.cli import main
main({words})
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the unpacked wheel, built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, copy / "dist"], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (copy / "dist").glob("lensllm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(copy / "installed")
    return copy / "installed"


@pytest.fixture(scope="module")
def missing():
    """Top-level modules of this environment that an installation without extras would lack."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = [Requirement(text) for text in project["dependencies"]]
    core = {"lensllm", "pip", "setuptools"}
    for needed in pending:  # grows on the way
        name = re.sub(r"[-_.]+", "-", needed.name).lower()
        if name not in core and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
            core.add(name)
            pending += [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    modules = importlib.metadata.packages_distributions()
    found = {
        module
        for module, names in modules.items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & core
    }
    assert {"torch", "huggingface_hub", "pyarrow"} <= found
    assert not {"numpy", "hydra", "yaml", "psutil"} & found
    return found


def command(installed, missing, folder, *words):
    """A command of the unpacked wheel, outside the checkout, without optional packages."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(modules=missing, words=list(words))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


def test_everything_that_is_read_at_run_time_is_in_the_wheel(installed):
    expected = {
        f"{inside}/{path.relative_to(ROOT / folder)}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {str(p.relative_to(installed)) for p in installed.rglob("*") if p.is_file()}
    assert {name for name in found if "dist-info" not in name} == expected
    assert {"lensllm/conf/select.yaml", "lensllm/evaluation/zoo.csv"} <= expected
    assert "lensllm/zoo/opt-64x2/model.safetensors" in expected


def test_a_replay_and_a_fit_need_only_the_dependencies_of_the_wheel(installed, missing, tmp_path):
    replay = ["runner=replay", "benchmark=zoo", "selector=every_size", "budget.fraction=2"]
    done = command(installed, missing, tmp_path, "select", *replay, "logger=none")
    assert done.returncode == 0, done.stderr
    (curves,) = tmp_path.glob("outputs/select/*/curves.csv")
    assert curves.with_name("curves.png").is_file()
    fit = ["fit", f"curves={curves}", "law=vanilla", "predict_at=[12800]", "figures=false"]
    done = command(installed, missing, tmp_path, *fit)
    assert done.returncode == 0, done.stderr
    assert "lensllm COMMAND --help" in command(installed, missing, tmp_path).stdout


def test_what_fine_tunes_names_the_extra_that_it_needs(installed, missing, tmp_path):
    done = command(installed, missing, tmp_path, "train")
    assert done.returncode == 2
    assert done.stderr == (
        "error: Expected the package pyarrow, found none: pip install 'lensllm[finetune]'\n"
    )


def test_the_doctor_works_without_torch(installed, missing, tmp_path):
    done = command(installed, missing, tmp_path, "doctor")
    assert done.returncode == 0, done.stderr
    assert "ok  packages: Python" in done.stdout
    assert "--  extra finetune: lacks torch" in done.stdout
    assert "--  torch: not installed; campaigns on recorded curves run" in done.stdout
    assert list(tmp_path.glob("outputs/doctor/*/doctor.json"))
