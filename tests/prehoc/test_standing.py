import math

import numpy as np
import pytest

from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.standing import judge
from lensllm.prehoc.stopping import StoppingRule

LAW = RiskLaw(0.02, 0.1, 0.5)
COSTS = np.array([0.1, 0.2, 0.4])
PRICES = np.array([[1.0, 1.0, 2.0]] * 3)


def test_the_one_far_behind_is_dropped_and_taken_down_with_the_others():
    rule = StoppingRule(RiskLaw(0.0, 0.01, 0.5))
    losses = np.array(
        [[2.0, math.nan, math.nan], [2.1, math.nan, math.nan], [9.0] + [math.nan] * 2]
    )
    standing = judge(rule, COSTS, losses, PRICES, 4.0)
    assert (standing.going_on, standing.level) == ((0, 1), 1)
    assert standing.decisions[2].reason == "breadth"
    losses[:2, 1] = [1.5, 1.7]
    standing = judge(rule, COSTS, losses, PRICES, 2.0)
    assert standing.reached.tolist() == [1, 1, 0]
    np.testing.assert_allclose(standing.losses, [1.5, 1.7, 9.0 - 0.45])
    assert (standing.going_on, standing.level) == ((0,), 2)  # 2.0 pays for one of the two
    assert standing.decisions[1].reason == "budget"


def test_nobody_is_dropped_where_the_budget_pays_for_all():
    losses = np.array(
        [[2.0, math.nan, math.nan], [2.1, math.nan, math.nan], [2.2] + [math.nan] * 2]
    )
    standing = judge(StoppingRule(LAW), COSTS, losses, PRICES, 9.0)
    assert standing.going_on == (0, 1, 2)


def test_a_race_waits_for_what_was_not_probed_yet_and_leaves_the_diverged():
    nothing = np.full((3, 3), math.nan)
    standing = judge(StoppingRule(LAW), COSTS, nothing, PRICES, 100.0)
    assert (standing.level, sorted(standing.going_on)) == (0, [0, 1, 2])
    assert standing.reached.tolist() == [-1, -1, -1]
    nothing[:, 0] = [math.inf, 2.0, 2.0]
    standing = judge(StoppingRule(LAW), COSTS, nothing, PRICES, 100.0)
    assert standing.going_on == (1, 2)
    assert standing.decisions[0].reason == "diverged"


@pytest.mark.parametrize(
    ("price", "n_known", "reason"),
    [(0.0, 3, "full_depth"), (1.0, 1, "worth_it"), (1.0, 2, "price")],
)
def test_all_stop_together_at_the_end_or_at_the_price(price, n_known, reason):
    losses = np.full((3, 3), math.nan)  # −V'(c) = 1.6 at c = 0.1, 0.56 at c = 0.2
    losses[:, :n_known] = [[2.0], [2.1], [2.2]]
    standing = judge(StoppingRule(LAW, price=price), COSTS, losses, PRICES, math.inf)
    found = {decision.reason for decision in standing.decisions.values()} or {"worth_it"}
    assert found == {reason}
    assert bool(standing.going_on) == (reason == "worth_it")
