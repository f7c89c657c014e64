import math

import numpy as np
import pytest

from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.stopping import StoppingRule, judge

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
    rule = StoppingRule(LAW)
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


def test_a_race_drops_the_hopeless_and_takes_them_down_with_the_others():
    losses = np.array([[2.0, 1.5, math.nan], [2.1, 1.7, math.nan], [9.0, math.nan, math.nan]])
    rule = StoppingRule(RiskLaw(0.01, 0.001, 0.5))
    standing = judge(rule, np.array([0.1, 0.2, 0.4]), losses)
    assert standing.decisions[2].reason == "hopeless"
    assert standing.reached.tolist() == [1, 1, 0]
    np.testing.assert_allclose(standing.losses, [1.5, 1.7, 9.0 - 0.45])
    assert standing.level == 2
    assert standing.going_on[0] == 0


def test_a_race_waits_for_what_was_not_probed_yet():
    nothing = np.full((3, 2), math.nan)
    standing = judge(StoppingRule(LAW), np.array([0.1, 0.2]), nothing)
    assert (standing.level, sorted(standing.going_on)) == (0, [0, 1, 2])
    assert standing.reached.tolist() == [-1, -1, -1]
    diverged = np.array([[math.inf, math.nan], [2.0, math.nan], [2.0, math.nan]])
    standing = judge(StoppingRule(LAW), np.array([0.1, 0.2]), diverged)
    assert standing.going_on == (1, 2)
    assert standing.decisions[0].reason == "hopeless"


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`price` >= 0, got -1"):
        StoppingRule(LAW, price=-1)
    with pytest.raises(ValueError, match=r"`hopeless` in \[0, 0.5\), got 0.5"):
        StoppingRule(LAW, hopeless=0.5)
