r"""Quote the overrides of a command for Hydra: paths, names and prompts are strings.

In Hydra's override grammar, `~`, `=`, `#`, `(`, `{` and non-ASCII letters need quotes, and `1.10`
is a number. Values of keys that hold a string are quoted before Hydra parses them, unless they are
quoted already; `~` becomes the home folder, and `\n` in a prompt a new line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_PATH = re.compile(
    r"((.+\.)?(path|source|folder|\w+_dir)|curves|trials|analyses|hydra\.(run|sweep)\.dir)"
)
_NAME = re.compile(
    r"((.+\.)?(name|models|datasets|\w+_field|limit|trial_time_limit)|price_per_hour"
    r"|replay\.dataset)"
)
_TEMPLATE = re.compile(r"(.+\.)?prompt|dataset\.(input|target|join)")
_CALL = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|str|int|float|bool)\(.*\)")
_LEFT = ("", "null", "None", "???")


def as_meant(words: Sequence[str], positional: str = "") -> list[str]:
    r"""The words of a command, with string values in Hydra's quotes.

    Args:
        words: Words of the command line, after the script's name.
        positional: The key whose value the first word is, if it is neither an option nor a setting.

    Example:
        >>> as_meant(["dataset.path=my data (v2).csv", "models=[1.10,7]", "seed=1"])
        ["dataset.path='my data (v2).csv'", "models=['1.10','7']", 'seed=1']
        >>> as_meant([r"training.prompt=Q: {input}\nA: "])
        ["training.prompt='Q: {input}\nA: '"]
        >>> as_meant(["my run"], positional="folder")
        ["folder='my run'"]
    """
    if positional and words and not words[0].startswith("-") and "=" not in words[0]:
        words = [f"{positional}={words[0]}", *words[1:]]
    return [_word(word) for word in words]


def _word(word: str) -> str:
    key, sign, value = word.partition("=")
    if key == "budget" and value not in _LEFT and not value.startswith("{"):
        return f"budget.limit={_each(value)}"  # `budget` itself is the group of its settings
    if key == "predict_at" and value not in _LEFT and not value.startswith(("[", "$")):
        return f"predict_at=[{value}]"
    plain = key.lstrip("+")
    if not sign or key.startswith("-") or value in _LEFT:
        return word
    if _TEMPLATE.fullmatch(plain):
        return f"{key}={_template(value)}"
    if not (_PATH.fullmatch(plain) or _NAME.fullmatch(plain)):
        return word
    if value.startswith("[") and value.endswith("]"):
        if set(value[1:-1]) & set("[]{}"):
            return word  # settings of a model, or a pattern within a list: Hydra's own grammar
        return f"{key}=[{_each(value[1:-1])}]"
    if "," in value and not Path(value).expanduser().exists() and not _is_left(value):
        return f"{key}={_each(value)}"  # a sweep
    return f"{key}={_text(value)}"


def _each(values: str) -> str:
    """Comma-separated strings; those in quotes may contain commas."""
    parts = re.findall(r"\s*('[^']*'|\"[^\"]*\"|[^,]+)", values)
    return ",".join(_text(part.strip()) for part in parts)


def _is_left(value: str) -> bool:
    """Whether a value is quoted, is an interpolation, or is a function of Hydra's grammar."""
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    return quoted or value in _LEFT or "${" in value or bool(_CALL.fullmatch(value))


def _text(value: str) -> str:
    if _is_left(value):
        return value
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    return quoted(value)


def _template(value: str) -> str:
    r"""A string with `\n` and `\t` replaced by line ends and tabs; `\\n` stays a backslash."""
    escapes = {"n": "\n", "t": "\t", "\\": "\\"}
    value = re.sub(r"\\([nt]|\\(?=[nt]))", lambda found: escapes[found[1]], value)
    return value if _is_left(value) else quoted(value)


def quoted(text: str) -> str:
    """A string in Hydra's quotes, in which a backslash escapes only before a quote."""
    doubled = re.sub(r"(\\+)(?='|$)", r"\1\1", text)
    return "'" + doubled.replace("'", "\\'") + "'"
