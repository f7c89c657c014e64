"""Budgets and times as people write them: `2h`, `90 min`, `5 USD`, `10%`, `1e15 FLOPs`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_TERM = re.compile(rf"\s*([$€£]?)\s*{_NUMBER}\s*([A-Za-z%$€£]*)\s*")
_SYMBOLS = {"$": "USD", "€": "EUR", "£": "GBP"}
_SECONDS = {
    unit: seconds
    for seconds, units in {
        1.0: "s sec secs second seconds",
        60.0: "m min mins minute minutes",
        3600.0: "h hour hours",
        86400.0: "d day days",
    }.items()
    for unit in units.split()
}
EXAMPLES = "'2h', '90min', '5 USD', '10%' or '1e15 FLOPs'"


@dataclass(frozen=True)
class Amount:
    """An amount with its unit.

    Attributes:
        value: The number.
        unit: `share` (of fine-tuning every candidate in full), `FLOPs`, `seconds`, a currency of
            three capital letters, or empty for a number without a unit.
    """

    value: float
    unit: str = ""

    @property
    def is_money(self) -> bool:
        """Whether the unit is a currency."""
        return len(self.unit) == 3


def read_amount(given: float | str, what: str = "budget") -> Amount:
    """The amount that a user wrote.

    Args:
        given: A number, or a text. Times may have several parts, as in `1h 30min`.
        what: Its name in messages.

    Raises:
        ValueError: It is no amount, or not a finite number above 0.

    Example:
        >>> read_amount("1h 30min"), read_amount("5 USD"), read_amount("10%")
        (Amount(value=5400.0, unit='seconds'), Amount(value=5.0, unit='USD'), \
Amount(value=0.1, unit='share'))
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        return _positive(Amount(float(given)), given, what)
    terms = list(_TERM.finditer(given)) if isinstance(given, str) else []
    if not terms or "".join(term[0] for term in terms) != given:
        raise ValueError(f"Expected {what} such as {EXAMPLES}, got {given!r}")
    read = [_term(term, given, what) for term in terms]
    if len(read) > 1 and any(amount.unit != "seconds" for amount in read):
        raise ValueError(f"Expected one number with its unit as {what}, got {given!r}")
    return _positive(Amount(sum(item.value for item in read), read[0].unit), given, what)


def read_seconds(given: float | str, what: str) -> float:
    """A time in seconds.

    Raises:
        ValueError: It is no time with its unit.

    Example:
        >>> read_seconds("30min", "trial_time_limit")
        1800.0
    """
    amount = read_amount(given, what)
    if amount.unit != "seconds":
        raise ValueError(f"Expected {what} with a unit of time, such as '30min', got {given!r}")
    return amount.value


def read_price(given: float | str) -> Amount:
    """A price per hour; a number without a currency is in US dollars.

    Raises:
        ValueError: It is no amount of money.
    """
    amount = read_amount(given, "price_per_hour")
    if amount.unit and not amount.is_money:
        raise ValueError(f"Expected price_per_hour such as 1.5 or '1.5 EUR', got {given!r}")
    return Amount(amount.value, amount.unit or "USD")


def _term(found: re.Match[str], given: str, what: str) -> Amount:
    value, unit = float(found[2]), found[3] or found[1]
    if unit == "%":
        return Amount(value / 100.0, "share")
    if unit in _SYMBOLS or re.fullmatch("[A-Z]{3}", unit):
        return Amount(value, _SYMBOLS.get(unit, unit))
    if unit.lower() in _SECONDS:
        return Amount(value * _SECONDS[unit.lower()], "seconds")
    if unit.lower() in ("flop", "flops"):
        return Amount(value, "FLOPs")
    if not unit:
        return Amount(value)
    raise ValueError(f"Expected {what} such as {EXAMPLES}, got {given!r}, whose unit is {unit!r}")


def _positive(amount: Amount, given: float | str, what: str) -> Amount:
    if not 0 < amount.value < math.inf:
        raise ValueError(f"Expected {what} to be a finite number above 0, got {given!r}")
    return amount
