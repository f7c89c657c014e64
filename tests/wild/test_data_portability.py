"""Other systems, and other runs at the same time."""

import ast
import builtins
import sys
from pathlib import Path

import lensllm
from lensllm.finetune import memory
from scripts.fit_laws import main as fit_main

UNIX_ONLY = {"resource", "fcntl", "pwd", "grp", "termios", "posix"}


def imported(tree):
    """Names that a module imports as it is imported itself, those that may fail left out."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_no_module_needs_what_windows_lacks():
    for path in Path(lensllm.__file__).parent.rglob("*.py"):
        names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        assert not names & UNIX_ONLY, path


def test_peak_memory_is_0_where_nobody_tells(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: False)
    assert memory.peak_memory_bytes() == 0


def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path, run_main):
    path = tmp_path / "toy.csv"
    path.write_text("model,50,100,200,400\na,4,3,2.5,2.2\n")
    for _ in range(3):
        run = run_main(
            fit_main, f"curves={path}", "law=power", "figures=false", f"paths.output_dir={tmp_path}"
        )
        assert run.code == 0, run.err
    assert len(list(tmp_path.rglob("fits.csv"))) == 3
