import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lensllm.prehoc.law import RiskLaw, fit_risk_law
from lensllm.prehoc.probing import (
    Price,
    depth_and_breadth,
    expected_maximum,
    optimal_probe,
)
from lensllm.prehoc.process import SyntheticProcess


@pytest.mark.parametrize("decay", [0.2, 0.6, 1.5])
@pytest.mark.parametrize("price", [0.003, 0.03, 0.3])
def test_the_closed_form_is_the_minimum(decay, price):
    law = RiskLaw(0.02, 0.01, decay)
    best = minimize_scalar(
        lambda c: float(law(c)) + price * c, bounds=(1e-6, 50), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    plan = optimal_probe(law, price, max_cost=50)
    assert plan.cost == pytest.approx(best.x, rel=1e-3)
    assert plan.total == pytest.approx(best.fun)
    assert float(law.marginal(plan.cost)) == pytest.approx(price)


def test_a_fitted_law_gives_an_optimum_within_ten_percent_of_the_true_one():
    process = SyntheticProcess(0.02, 0.2, 0.02, 0.01, 0.6)
    costs = np.geomspace(0.01, 1.0, 12)
    runs = process.draw(costs, 1500, 1, np.random.default_rng(0))
    law = fit_risk_law(costs, (runs.probes - runs.outcomes[:, None]) ** 2, runs.models)
    for price in (0.01, 0.03, 0.1):
        true, found = (optimal_probe(x, price) for x in (process.law, law))
        assert found.cost == pytest.approx(true.cost, rel=0.1)
        low, high = found.interval
        assert low <= true.cost <= high
        total = float(process.law(found.cost)) + price * found.cost
        assert total == pytest.approx(true.total, rel=0.1)


def test_no_probe_where_it_is_not_worth_it_and_limits_are_kept():
    law = RiskLaw(0.02, 0.01, 0.5, static_risk=0.05)
    assert optimal_probe(law, 10.0).cost == 0
    assert optimal_probe(law, 10.0).total == 0.05
    free = RiskLaw(0.02, 0.01, 0.5)
    assert optimal_probe(free, 1e-6).cost == 1.0
    assert "larger one" in optimal_probe(free, 1e-6).reason
    small = optimal_probe(free, 5.0, min_cost=0.1)
    assert (small.cost, small.reason.startswith("the smallest")) == (0.1, True)
    with pytest.raises(ValueError, match="`price_per_run` > 0, got 0"):
        optimal_probe(free, 0.0)


def test_prices_in_every_unit():
    full = {"full_flops": 1e15, "full_seconds": 7200.0, "money_per_hour": 3.0}
    assert Price(0.2).per_run == 0.2
    assert Price(1e-16, "flops", **full).per_run == pytest.approx(0.1)
    assert Price(1e-5, "seconds", **full).per_run == pytest.approx(0.072)
    assert Price(0.01, "money", **full).per_run == pytest.approx(0.06)
    with pytest.raises(ValueError, match="price per share, flops, seconds or money, got 'euro'"):
        Price(1.0, "euro")
    with pytest.raises(ValueError, match="price > 0 nats² per share, got -1"):
        Price(-1.0)
    with pytest.raises(ValueError, match="`full_flops` > 0 for a price per flops, got nan"):
        _ = Price(1.0, "flops").per_run
    with pytest.raises(ValueError, match="`money_per_hour` > 0 for a price per money, got nan"):
        _ = Price(1.0, "money", full_seconds=60.0).per_run


def test_expected_maximum_of_normals():
    assert expected_maximum(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))
    z = np.random.default_rng(0).normal(size=(100_000, 8)).max(1)
    assert expected_maximum(8) == pytest.approx(z.mean(), abs=0.01)


def test_depth_against_breadth():
    flat = RiskLaw(0.01, 1e-4, 0.3, static_risk=0.2)  # a shallow probe tells all
    steep = RiskLaw(0.01, 0.05, 1.0, static_risk=0.2)  # a shallow probe tells nothing
    assert depth_and_breadth(flat, 0.5, 20).n_probed == 20
    deep = depth_and_breadth(steep, 0.5, 20)
    assert deep.n_probed < 5
    gains = {  # by simulation: forecasts spread with variance R(0) − R(c)
        k: math.sqrt(max(0.2 - float(steep(0.5 / k)), 0)) * expected_maximum(k)
        for k in range(1, 21)
    }
    assert deep.n_probed == max(gains, key=gains.get)
    with pytest.raises(ValueError, match="law with `static_risk`"):
        depth_and_breadth(RiskLaw(0.0, 0.1, 0.5), 1.0, 3)
    with pytest.raises(ValueError, match=r"at least one probe \(0.5 full runs\), got 0.1"):
        depth_and_breadth(flat, 0.1, 3, min_cost=0.5)
