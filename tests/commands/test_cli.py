"""The installed command: what it lists, what help says, and what stays unimported."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lensllm.commands import cli
from lensllm.commands.command_line import as_meant
from lensllm.commands.conf import command_names, conf_dir, header

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "pytorch_lightning", "wandb", "powerlaw", "peft", "datasets"}
POSITIONAL = {"report": "folder"}  # commands whose first word needs no key
SCRIPTS = {  # the files that stand for commands
    path.stem: found[1].removesuffix("_")
    for path in sorted((ROOT / "scripts").glob("*.py"))
    if (found := re.search(r"from lensllm\.commands\.(\w+) import main", path.read_text()))
}
HELP_OF_ALL = """
from lensllm.commands.cli import main
main(["--help"])
for name in ({names}):
    main([name, "--help"])
"""


def imported(code, folder):
    """Top-level modules that are there after code has run in a fresh process."""
    ending = "import sys; print(); print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_there_is_a_file_for_every_command_and_the_other_way_round():
    assert sorted(SCRIPTS.values()) == command_names()
    for path in (ROOT / "train.py", *(ROOT / "scripts" / f"{name}.py" for name in SCRIPTS)):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert next(line for line in lines if line.startswith(("import ", "from "))).startswith(
            "import lensllm.system.guarded"
        ), path


def test_all_commands_are_listed_with_a_line_each(run_main):
    done = run_main(cli.main, "--help")
    assert done.code == 0
    for name in command_names():
        (line,) = re.findall(rf"^  {name}  +(.*)$", done.out, flags=re.MULTILINE)
        assert line == header(name)[0]
        assert line.endswith(".")
    assert run_main(cli.main).out == done.out


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_same_by_either_way_and_its_examples_compose(script, run_main):
    name = SCRIPTS[script]
    done = run_main(cli.main, name, "--help")
    assert (done.code, done.err) == (0, "")
    assert run_main(importlib.import_module(f"scripts.{script}").main, "--help").out == done.out
    text = done.out.partition("\n\n")[0].replace("\\\n", " ")
    examples = re.findall(r"^  (lensllm .*?)(?:  .*)?$", text, flags=re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        _, command, *words = shlex.split(example)
        assert command == name
        words = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in words if word != "-m"]
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            assert compose(name, as_meant(words, POSITIONAL.get(name, ""))) is not None


def test_help_lists_the_groups_and_ones_own_files(run_main, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("source: x\n")
    done = run_main(cli.main, "train", "--help", "--config-dir", tmp_path)
    assert re.search(r"^  scheduler \(linear\): constant, cosine, linear$", done.out, re.MULTILINE)
    assert re.search(r"\bmine, mt5-base\b", " ".join(done.out.split()))


def test_a_misspelt_command_names_the_nearest(run_main):
    done = run_main(cli.main, "slect", "runner=replay")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: Expected a command, got 'slect': did you mean select?\n"
    assert "there are clean, curvature" in run_main(cli.main, "x").err


def test_the_version_is_told(run_main):
    assert run_main(cli.main, "--version").out == "lensllm 0.1.0\n"


def test_a_pickled_run_is_not_loaded(run_main, tmp_path):
    done = run_main(cli.main, "select", "--experimental-rerun", tmp_path / "config.pickle")
    assert done.code == 2
    assert re.fullmatch(
        "error: Expected no --experimental-rerun, which loads a pickle: .*\n", done.err
    )


def test_importing_the_package_and_asking_for_help_imports_nothing_heavy(tmp_path):
    heavy = HEAVY | {"matplotlib", "pandas", "scipy"}
    assert not imported("import lensllm", tmp_path) & (heavy | {"hydra", "numpy"})
    names = ", ".join(map(repr, command_names()))
    assert not imported(HELP_OF_ALL.format(names=names), tmp_path) & heavy
