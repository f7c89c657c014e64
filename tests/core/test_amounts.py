import math

import pytest

from lensllm.core.amounts import Amount, read_amount, read_price, read_seconds


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2h", 7200, "seconds"),
        ("90min", 5400, "seconds"),
        ("1.5 hours", 5400, "seconds"),
        ("1h 30 min", 5400, "seconds"),
        ("45s", 45, "seconds"),
        ("1d", 86400, "seconds"),
        ("5 USD", 5, "USD"),
        ("$5", 5, "USD"),
        ("2.50€", 2.5, "EUR"),
        ("7 CHF", 7, "CHF"),
        ("10%", 0.1, "share"),
        ("2.5 %", 0.025, "share"),
        ("1e15 FLOPs", 1e15, "FLOPs"),
        ("1e15", 1e15, ""),
        (3e12, 3e12, ""),
        (7, 7, ""),
    ],
)
def test_budgets_as_people_write_them(text, value, unit):
    assert read_amount(text) == Amount(pytest.approx(value), unit)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lots", "such as '2h', .* got 'lots'"),
        ("2 fortnights", "whose unit is 'fortnights'"),
        ("", "got ''"),
        ("2h 5 USD", "one number with its unit as budget, got '2h 5 USD'"),
        ("10% 5%", "one number with its unit"),
        ("-2h", "got '-2h'"),
        (0, "finite number above 0, got 0"),
        ("0min", "finite number above 0, got '0min'"),
        (math.inf, "finite number above 0, got inf"),
        (math.nan, "finite number above 0, got nan"),
        (True, "got True"),
    ],
)
def test_what_is_no_budget_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        read_amount(given)


def test_times_and_prices_have_their_units():
    assert read_seconds("30min", "trial_time_limit") == 1800
    with pytest.raises(ValueError, match=r"trial_time_limit with a unit of time.* got '30'"):
        read_seconds("30", "trial_time_limit")
    assert (read_price(1.5), read_price("1.5 EUR")) == (Amount(1.5, "USD"), Amount(1.5, "EUR"))
    with pytest.raises(ValueError, match=r"price_per_hour such as 1\.5 or '1\.5 EUR', got '2h'"):
        read_price("2h")
