"""Tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lensllm.reports.tables import Table
from lensllm.system.harmless import plain, redact
from lensllm.system.progress import note

MIN_WIDTH = 160


class PlainConsole(Console):
    """A console that prints texts as they are: no markup, no control characters, no secrets."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a text, including a cell's, into a renderable without markup."""
        return super().render_str(
            plain(redact(text)), **{**options, "markup": False, "emoji": False}
        )


def wide_console() -> Console:
    """A console that is wide enough for tables, even if the output is a file or a pipe."""
    return PlainConsole(width=max(MIN_WIDTH, Console().width))


def say(*lines: str) -> None:
    """Print lines on standard output as they are, without control characters and secrets.

    They are in the log file of the run too.
    """
    for line in lines:
        note(line)
    print(*(plain(redact(line)) for line in lines), sep="\n", flush=True)


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table with its caption.

    Args:
        table: The table.
        console: Console to print on; a new one by default.
    """
    rich = RichTable(caption=table.caption, caption_justify="left")
    for i, column in enumerate(table.frame.columns):
        rich.add_column(str(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.cells():
        rich.add_row(*row)
    (console or wide_console()).print(rich)
