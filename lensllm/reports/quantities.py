"""Quantities as people write them: 1.3B parameters, 12 min, 1.4e+12 FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lensllm.reports import amounts

DASH = "–"
MEASURABLE = 1e-5  # no test set tells a smaller difference, of losses or of scores
_COUNTS = (("B", 1e9), ("M", 1e6), ("k", 1e3))
_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def count(number: float) -> str:
    """A number of parameters.

    Example:
        >>> count(1.3e9), count(161088), count(float("nan"))
        ('1.3B', '161k', '–')
    """
    return _scaled(number, _COUNTS, "")


def size(n_bytes: float) -> str:
    """An amount of memory.

    Example:
        >>> size(902180864)
        '902 MB'
    """
    return _scaled(n_bytes, _BYTES, " ")


def saving(gain: float, unit: str = "") -> str:
    """An expected fall in regret.

    Example:
        >>> saving(0.0045, "nats"), saving(4.8e-20, "nats")
        ('0.0045 nats', 'nothing measurable')
    """
    return "nothing measurable" if gain < MEASURABLE else f"{gain:.2g} {unit}".rstrip()


def duration(seconds: float) -> str:
    """A time that was taken; a dash if none is known."""
    return amounts.duration(seconds) if math.isfinite(seconds) and seconds > 0 else DASH


def share(fraction: float) -> str:
    """A share of a whole.

    Example:
        >>> share(0.0991), share(0.00034), share(1.04)
        ('9.9 %', '0.034 %', '104 %')
    """
    if not math.isfinite(fraction):
        return DASH
    percent = 100 * fraction
    return f"{percent:.0f} %" if percent >= 99.5 else f"{percent:.2g} %"


def value(number: float, digits: int = 3) -> str:
    """A number, or a dash if it is not known."""
    return f"{number:.{digits}f}" if math.isfinite(number) else DASH


def thousands(n_samples: float) -> str:
    r"""A whole number in groups of three digits.

    Example:
        >>> thousands(1638400)
        '1\xa0638\xa0400'
    """
    if not math.isfinite(n_samples):
        return DASH
    return f"{n_samples:,.0f}".replace(",", "\N{NO-BREAK SPACE}")


def _scaled(number: float, units: Sequence[tuple[str, float]], space: str) -> str:
    if not (math.isfinite(number) and number > 0):
        return DASH
    for unit, factor in units:
        if number >= factor:
            return f"{number / factor:.3g}{space}{unit}"
    return f"{number:.3g}"
