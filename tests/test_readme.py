"""The commands of README and docs are commands of this project, and a quick one is run."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lensllm.commands.command_line import as_meant
from lensllm.commands.conf import command_module, command_names, conf_dir

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a reader puts in place of these words.
NAMES = {
    "dataset=NAME": "dataset=wiki",
    "model=NAME": "model=opt-64x2",
    "model=...": "",
    "dataset=...": "",
}


def commands(page: Path) -> list[str]:
    """Commands in fenced blocks, tables and text, one a line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    quoted = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", rest)]
    lines = "\n".join([*blocks, *quoted]).replace("\\\n", " ")
    lines = re.sub(r"'(\w+=\[[^']*?)\n\s*", r"'\1", lines)  # a list that goes on below
    found = [line.split("  #")[0].strip() for line in lines.splitlines()]
    return [line for line in found if line.startswith(("lensllm ", "python ", "make "))]


COMMANDS = {page.name: commands(page) for page in PAGES}
ALL = [(page, line) for page, lines in COMMANDS.items() for line in dict.fromkeys(lines)]


def test_readme_has_the_two_commands_first() -> None:
    assert [line.split()[1] for line in COMMANDS["README.md"][:2]] == ["demo", "test"]


@pytest.mark.parametrize("target", sorted({c.split()[1] for _, c in ALL if c.startswith("make ")}))
def test_make_targets_exist(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "command"), [c for c in ALL if c[1].startswith("python ")])
def test_scripts_have_the_options_that_pages_name(page: str, command: str) -> None:
    words = shlex.split(command)
    path = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
    known = re.findall(r'"(--\w+)"', (ROOT / path).read_text(encoding="utf-8"))
    assert {word for word in words if word.startswith("--")} <= set(known)
    assert "main(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "command"), [c for c in ALL if re.match(r"lensllm \w", c[1])])
def test_commands_compose(page: str, command: str) -> None:
    _, name, *words = shlex.split(command)
    assert name in command_names()
    importlib.import_module(command_module(name))
    overrides = [NAMES.get(word, word) for word in words if "=" in word]
    overrides = as_meant([word for word in overrides if word])
    if "-m" in words:  # a sweep's values one at a time
        overrides = [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose(name, overrides=overrides)


def test_the_replay_example_runs(run_main, tmp_path: Path) -> None:
    from scripts.select_model import main

    command = next(c for c in COMMANDS["README.md"] if "runner=replay" in c)
    done = run_main(main, *shlex.split(command)[2:], f"paths.output_dir={tmp_path}")
    assert done.code == 0, done.err
    assert "Fine-tune" in done.out
    assert list(tmp_path.rglob("selection.json"))
