"""Times and prices in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration in a suitable unit.

    Example:
        >>> duration(42), duration(600), duration(9000), duration(400000)
        ('42 s', '10 min', '2.5 h', '4.6 days')
    """
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            digits = 1 if unit == "h" else 0
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def money(amount: float | None, currency: str) -> str:
    """An amount with its currency; empty if no price is known."""
    return "" if amount is None else f"{amount:.2f} {currency}"
