"""Values of table columns as texts: class labels by their names, lists by a stated join."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping
from typing import Any

_PLAIN = (str, int, float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)


class NotATextError(ValueError):
    """A value that cannot be converted to text unambiguously."""


def with_label_names(value: Any, feature: Any) -> Any:
    """A value with the names of its class labels in place of their numbers.

    Args:
        value: A value of a column, or a mapping of them.
        feature: What `datasets` knows of it: a feature, or a mapping of them.

    Returns:
        The value; a label of -1, which stands for none, is `None`.
    """
    if value is None or feature is None:
        return value
    if hasattr(feature, "int2str"):
        if not isinstance(value, int):
            return value
        return None if value < 0 else feature.int2str(value)
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {name: with_label_names(item, feature.get(name)) for name, item in value.items()}
    inner = getattr(feature, "feature", None)  # of a list
    if isinstance(feature, list):
        inner = feature[0]
    if inner is not None and isinstance(value, list):
        return [with_label_names(item, inner) for item in value]
    return value


def has_labels(feature: Any) -> bool:
    """Whether a feature is a class label or holds one."""
    if isinstance(feature, Mapping):
        return any(map(has_labels, feature.values()))
    if isinstance(feature, list):
        return any(map(has_labels, feature))
    inner = getattr(feature, "feature", None)
    return hasattr(feature, "int2str") or (inner is not None and has_labels(inner))


def as_text(value: Any, join: str | None = None) -> str:
    """A value as a text.

    Args:
        value: A text, number, date or truth value; or a list of them, where there is a join.
        join: Separator between the members of a list.

    Raises:
        NotATextError: It is a list without a join, or of another type; the message says what to do.

    Example:
        >>> as_text(3), as_text(["a", "b"], join=", ")
        ('3', 'a, b')
    """
    if isinstance(value, _PLAIN):
        return str(value)
    if isinstance(value, list | tuple):
        if join is None:
            raise NotATextError(
                f"a list ({str(value)[:40]}): say what stands between its members, such as "
                "dataset.join=', ', or take one of them, such as {column[0]}"
            )
        return join.join(as_text(item, join) for item in value if item is not None)
    if isinstance(value, Mapping):
        raise NotATextError(
            f"fields of its own ({', '.join(map(str, value))}): take one, such as "
            f"{{column[{next(iter(value), 'field')}]}}"
        )
    raise NotATextError(f"a {type(value).__name__}, which is no text")
