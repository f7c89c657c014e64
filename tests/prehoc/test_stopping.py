import math

import numpy as np
import pytest

from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.stopping import StoppingRule

LAW = RiskLaw(0.02, 0.01, 0.5)


def test_stops_where_one_more_unit_costs_more_than_it_tells():
    rule = StoppingRule(LAW, price=0.1)
    best = (0.5 * 0.01 / 0.1) ** (1 / 1.5)
    assert not rule.decide(best * 0.99).stop
    decision = rule.decide(best * 1.01)
    assert (decision.stop, decision.reason) == (True, "price")
    assert StoppingRule(LAW).decide(1.0).reason == "full_depth"
    assert StoppingRule(LAW).decide(0.5).reason == "worth_it"


def test_the_chance_to_win_is_the_one_of_the_law():
    rule = StoppingRule(LAW, n_tasks=math.inf)
    rng = np.random.default_rng(0)
    sd = math.sqrt(float(LAW(0.3)))
    ends = rng.normal([2.1, 2.0], sd, size=(200_000, 2))
    assert rule.chance_to_beat(0.3, 2.1, [2.0]) == pytest.approx(
        (ends[:, 0] < ends[:, 1]).mean(), abs=0.005
    )
    assert rule.decide(0.3, 2.0, [3.0]).reason == "worth_it"
    assert rule.decide(0.3, 3.0, [2.0]).reason == "hopeless"
    assert rule.decide(0.3, math.inf, [2.0]).reason == "hopeless"
    # The same distance, on a scale a hundred times as large.
    assert rule.decide(0.3, 3.0, [2.0], unit=100.0).reason == "worth_it"


def test_a_law_of_few_tasks_is_less_sure():
    chances = [
        StoppingRule(LAW, n_tasks=n).chance_to_beat(0.3, 2.5, [2.0]) for n in (1, 2, 10, math.inf)
    ]
    assert chances == sorted(chances, reverse=True)
    z = 0.5 / math.sqrt(2 * float(LAW(0.3)))
    assert chances[1] == pytest.approx(0.5 * (1 - z / math.sqrt(2 + z * z)))  # Student, 2 degrees


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`price` >= 0, got -1"):
        StoppingRule(LAW, price=-1)
    with pytest.raises(ValueError, match=r"`hopeless` in \[0, 0.5\), got 0.5"):
        StoppingRule(LAW, hopeless=0.5)
    with pytest.raises(ValueError, match="`n_tasks` > 0, got 0"):
        StoppingRule(LAW, n_tasks=0)
