"""Tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from lensllm.reporting.tables import Table

MIN_WIDTH = 160


def wide_console() -> Console:
    """A console that is wide enough for tables, also where the output is a file or a pipe."""
    return Console(width=max(MIN_WIDTH, Console().width))


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table with its caption.

    Args:
        table: The table.
        console: Where to; a new console by default.
    """
    rich = RichTable(caption=table.caption, caption_justify="left")
    for i, column in enumerate(table.frame.columns):
        rich.add_column(str(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.cells():
        rich.add_row(*row)
    (console or wide_console()).print(rich)
