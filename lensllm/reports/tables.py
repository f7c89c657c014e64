"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from lensllm.system.atomic import write_whole
from lensllm.system.harmless import one_row, safe_name, write_csv


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its caption.

    Attributes:
        name: File name without its ending.
        caption: A description, with the command and the settings that made it.
        frame: Cells, unrounded; the index is not printed.
        decimals: Decimals of the numbers, by column; 1 by default.
        printed: The same in the layout in which Markdown and LaTeX show it, rows with the same
            first cell between rules; by default `frame`, which the CSV has in any case.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    decimals: dict[str, int] | None = None
    printed: pd.DataFrame | None = None

    @property
    def shown(self) -> pd.DataFrame:
        """What Markdown and LaTeX show."""
        return self.frame if self.printed is None else self.printed

    def cells(self) -> list[list[str]]:
        """Rows of formatted cells: rounded numbers, an en dash for `nan`, text as it is."""
        columns = [str(column) for column in self.shown.columns]
        return [
            [self._format(column, value) for column, value in zip(columns, row, strict=True)]
            for row in self.shown.itertuples(index=False, name=None)
        ]

    def _format(self, column: str, value: object) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return "–"
        if isinstance(value, float):
            digits = (self.decimals or {}).get(column, 1)
            text = f"{value:.{digits}f}"
            # no "-0.0": a difference that rounds to nothing has no sign
            return text.lstrip("-") if float(text) == 0 else text
        return str(value)

    def to_markdown(self) -> str:
        """A GitHub table under its caption."""
        head = [str(column) for column in self.shown.columns]
        lines = [
            f"**{self.name}.** {one_row(self.caption)}",
            "",
            _row(head),
            _row(["---"] * len(head)),
        ]
        lines += [_row([_md(cell) for cell in row]) for row in self.cells()]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """A `table` environment with booktabs rules, numbers aligned on the right."""
        head = [_tex(str(column)) for column in self.shown.columns]
        cells = self.cells()
        sides = [
            "r" if is_numeric_dtype(kind) or all(_NUMBER.match(row[i]) for row in cells) else "l"
            for i, kind in enumerate(self.shown.dtypes)
        ]
        groups = [list(group) for _, group in groupby(cells, key=lambda row: row[0])]
        rule = [r"\midrule"] if self.printed is not None and len(groups) < len(cells) else []
        rows: list[str] = []
        for group in groups:
            rows += rule if rows else []
            rows += [" & ".join(_tex(cell) for cell in row) + r" \\" for row in group]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                rf"\begin{{tabular}}{{{''.join(sides)}}}",
                r"\toprule",
                " & ".join(head) + r" \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write `.md`, `.tex` and `.csv`; the CSV has ten significant digits.

        Returns:
            The three paths.
        """
        folder = Path(folder)
        paths = [folder / f"{safe_name(self.name)}.{ending}" for ending in ("md", "tex", "csv")]
        write_whole(paths[0], self.to_markdown())
        write_whole(paths[1], self.to_latex())
        # Ten digits: the last ones of a float differ between machines, and a table should not.
        write_csv(self.frame, paths[2], float_format="%.10g", lineterminator="\n")
        return paths


_NUMBER = re.compile(r"(–|-?\d+(\.\d+)?(/\d+)?)( \((–|-?\d+(\.\d+)?)\))?$")
_TEX = {
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "–": "--",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "^": r"\^{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
}


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _md(text: str) -> str:
    """Escape characters that Markdown reads as the end of a cell, a tag, a link or code."""
    text = one_row(text).replace("](", "]\\(").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([|`*])", r"\\\1", text)


def _tex(text: str) -> str:
    """Escape characters that LaTeX reads as commands."""
    return "".join(_TEX.get(mark, mark) for mark in one_row(text))
