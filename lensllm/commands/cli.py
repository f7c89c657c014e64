"""The installed command: `lensllm COMMAND ...` hands over to `lensllm.commands.COMMAND`."""

from __future__ import annotations

import lensllm.system.guarded  # noqa: F401 - first: Ctrl-C then holds while the rest is imported

import difflib
import importlib
import sys
from collections.abc import Sequence

from lensllm import __version__
from lensllm.commands.conf import command_module, command_names, header


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the first word names with the words after it.

    Args:
        words: Those of the command line by default.
    """
    words = sys.argv[1:] if words is None else words
    name = words[0] if words else "--help"
    if name in ("--help", "-h"):
        print(overview())
    elif name == "--version":
        print(f"lensllm {__version__}")
    elif name in command_names():
        importlib.import_module(command_module(name)).main(words[1:])
    else:
        print(f"error: {unknown(name)}", file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """All commands, each with the first line of its primary file."""
    names = command_names()
    width = max(map(len, names))
    return "\n".join(
        [
            "Tells which LLM to fine-tune, after fine-tuning as little as possible.",
            "",
            "Usage: lensllm COMMAND [GROUP=NAME] [KEY=VALUE] ...",
            "",
            *(f"  {name:{width}}  {header(name)[0]}" for name in names),
            "",
            "lensllm COMMAND --help has examples and the choices of each group.",
        ]
    )


def unknown(name: str) -> str:
    """The message for an unknown command.

    Example:
        >>> unknown("slect")
        "Expected a command, got 'slect': did you mean select?"
    """
    known = command_names()
    near = difflib.get_close_matches(name, known, n=1)
    way = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"Expected a command, got {name!r}: {way}"
