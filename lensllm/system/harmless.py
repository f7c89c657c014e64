r"""Escapes untrusted names and settings for the places that they are written to.

A model may be named `../x`, `=HYPERLINK(...)`, `[/red]` or `$\frac$`: each is a name to us and
something else to a file system, a spreadsheet, a terminal or a figure. And a setting may hold an
access token, which no record needs.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from lensllm.system.atomic import write_whole

if TYPE_CHECKING:
    import pandas as pd

MAX_NAME_BYTES = 120  # of a file name, which most file systems end at 255 bytes
MIN_SECRET = 8  # characters; shorter values are words such as `yes` or `main`

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Numbers and intervals in words: "-0.1 to 0.2", "-3 %", and the dash of a missing value.
_NUMERIC = re.compile(r"[-+]?[\d.][\d.,eE+\-–±%()\[\] ]*(to [\d.,eE+\-–±%()\[\] ]*)?|-")
_SECRET_NAME = re.compile(
    r"(^|_)(API)?(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)S?(_|\d|$)", re.I
)


def safe_name(text: str) -> str:
    """A readable file name for a text; different texts get different names.

    Letters, digits and `_.+=,@-` stay; where anything else was replaced, or the name would be
    hidden, too long or empty, it ends in eight digits of the text's hash.

    Example:
        >>> safe_name("gpt2-48x2-D200-s0"), safe_name("../../etc/passwd")
        ('gpt2-48x2-D200-s0', '_.._etc_passwd-3754d6cb')
    """
    name = re.sub(r"[^\w.+=,@-]+", "_", text).lstrip(".-")
    name = name.encode("utf-8")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    if name == text and name and not name.endswith("."):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name.rstrip('.')}-{digest}".lstrip("-")


def plain(text: str) -> str:
    r"""A text whose control characters are spelt out, but for ends of lines and tabs.

    Example:
        >>> plain("\x1b[31mred\x1b[0m")
        '\\x1b[31mred\\x1b[0m'
    """
    return "".join(
        mark if mark in "\n\t" or not _is_control(mark) else _spelt(mark) for mark in text
    )


def _is_control(mark: str) -> bool:
    # Cf: marks that change the reading direction or have no width; Zl, Zp: ends of lines, of
    # paragraphs.
    return unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _spelt(mark: str) -> str:
    return mark.encode("unicode_escape", "surrogatepass").decode("ascii")


def one_row(text: str) -> str:
    """A text on one line, `plain`."""
    return plain(re.sub(r"\s*[\r\n\t]\s*", " ", text))


def drawn(text: str) -> str:
    r"""A text that matplotlib draws as it is: no control characters, no mathematics.

    Example:
        >>> drawn("a$b$")
        'a\\$b\\$'
    """
    return plain(text).replace("$", r"\$")


def csv_cell(value: Any) -> Any:
    """A cell that a spreadsheet takes for a text, not for a formula; numbers stay as they are.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-0.1 to 0.2"), csv_cell(-0.1)
        ("'=1+1", '-0.1 to 0.2', -0.1)
    """
    is_formula = isinstance(value, str) and value.startswith((*_FORMULA, "'"))
    if is_formula and not _NUMERIC.fullmatch(value):
        return f"'{value}"
    return value


def csv_name(cell: str) -> str:
    """The text that `csv_cell` made a cell of.

    Example:
        >>> csv_name("'=1+1"), csv_name("gpt2")
        ('=1+1', 'gpt2')
    """
    return cell[1:] if cell.startswith("'") and cell[1:2] in (*_FORMULA, "'") else cell


def write_csv(frame: pd.DataFrame, path: str | Path, **options: Any) -> None:
    """Write a table for readers atomically, its text cells by `csv_cell`, without the index.

    Args:
        frame: The table.
        path: The file.
        **options: Those of `pandas.DataFrame.to_csv`.

    Raises:
        StorageError: The file cannot be written.
    """
    import pandas as pd

    texts = [i for i, kind in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    safe = frame.copy()
    for i in texts:
        safe.isetitem(i, frame.iloc[:, i].map(csv_cell))
    # Python's csv module leaves a lone carriage return unquoted, which readers take for a new row.
    returns = any(safe.iloc[:, i].astype(str).str.contains("\r").any() for i in texts)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    write_whole(Path(path), safe.to_csv(**{"index": False, "quoting": quoting, **options}))


def redact(value: Any) -> Any:
    """A copy in which secrets of the environment are replaced by their variables' names.

    Args:
        value: Text, or nested lists and mappings. Texts are searched for the values of environment
            variables whose name says that they are secret (`HF_TOKEN`, `WANDB_API_KEY`, ...).

    Returns:
        The same with `${oc.env:NAME}` in place of each.
    """
    return _redact(value, _secrets())


def _secrets() -> dict[str, str]:
    """Secret values and the names of their variables, the longest first."""
    found = {
        value: name
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name)
        and len(value.strip()) >= MIN_SECRET
        and not value.startswith(("/", "~", "."))  # the path of a secret is not secret
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _redact(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret, name in secrets.items():
            value = value.replace(secret, f"${{oc.env:{name}}}")
        return value
    if isinstance(value, Mapping):
        return {_redact(key, secrets): _redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_redact(item, secrets) for item in value])
    return value


def stored_settings(config: DictConfig) -> dict[str, Any]:
    """A configuration as it is stored: resolved, but for environment variables and secrets.

    Args:
        config: The composed configuration.

    Returns:
        Plain JSON types; what comes from the environment, also by way of other keys, reads
        `${oc.env:NAME}`.
    """
    with _unread_environment():
        return redact(_resolved(config))


@contextmanager
def _unread_environment() -> Iterator[None]:
    """Within this block, `${oc.env:NAME}` is not resolved."""

    def unread(name: str, *default: Any) -> Any:
        return default[0] if default and name not in os.environ else f"${{oc.env:{name}}}"

    OmegaConf.register_new_resolver("oc.env", unread, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _resolved(node: Any) -> Any:
    if isinstance(node, DictConfig):
        return {key: _member(node, key) for key in node}
    if isinstance(node, ListConfig):
        return [_member(node, i) for i in range(len(node))]
    return node


def _member(node: DictConfig | ListConfig, key: Any) -> Any:
    """A resolved member, or its raw text if it is missing or cannot be resolved."""
    try:
        return "???" if OmegaConf.is_missing(node, key) else _resolved(node[key])
    except OmegaConfBaseException:
        raw = node._get_node(key)
        return str(raw._value())  # type: ignore[union-attr]


class HarmlessLog(logging.Filter):
    """Lets every record of a log pass, `plain` and with secrets redacted."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message in place."""
        record.msg, record.args = plain(redact(record.getMessage())), ()
        return True
