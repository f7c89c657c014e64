"""The folder of YAML files, and the help texts of commands in its primary files."""

from __future__ import annotations

import keyword
from pathlib import Path


def conf_dir() -> Path:
    """The folder of YAML files: `conf` of the checkout, or the installed package's copy of it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"Expected the configuration folder `conf` beside or inside {package}")


def command_names() -> list[str]:
    """Names of the commands, sorted: each has a primary file and a module of its name."""
    return sorted(path.stem for path in conf_dir().glob("*.yaml"))


def command_module(name: str) -> str:
    """Full name of a command's module; a Python keyword gets a trailing underscore.

    Example:
        >>> command_module("fit"), command_module("import")
        ('lensllm.commands.fit', 'lensllm.commands.import_')
    """
    return f"lensllm.commands.{name}{'_' if keyword.iskeyword(name) else ''}"


def header(command: str) -> list[str]:
    """The lines of the comment at the top of a primary file: a sentence, then examples."""
    lines = []
    for line in (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines
