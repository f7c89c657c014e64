from dataclasses import replace

import numpy as np
import pytest

from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.stopping import StoppingRule
from lensllm.studies.prehoc.race import (
    cells,
    compare_depths,
    compare_with_hindsight,
    fixed_depth,
    race,
    regret,
    relative_law,
)


def test_a_fixed_depth_costs_what_it_says_and_takes_the_best_there(draw):
    cell = cells(draw(6, 1))[0]
    found = fixed_depth(cell, 0.1)
    k = int(np.argmin(np.abs(np.log(cell.costs / 0.1))))
    assert found.chosen == cell.probes[:, k].argmin()
    assert found.spent == pytest.approx(6 * cell.costs[k])
    assert regret(cell, int(cell.outcomes.argmin())) == (0.0, 0.0)
    assert regret(cell, int(cell.outcomes.argmax()))[1] == 1.0


@pytest.mark.parametrize("budget", [0.005, 0.05, 0.3, 1.5, 6.0])
def test_a_race_never_spends_more_than_its_budget(draw, budget):
    cell = cells(draw(6, 1, static_variance=0.5))[0]
    found = race(StoppingRule(RiskLaw(0.05, 0.01, 0.5)), cell, budget)
    assert found.spent <= budget * (1 + 1e-9)
    assert found.spent == pytest.approx(found.depths.sum())
    assert 0 <= found.chosen < 6
    assert len(found.decisions) == 6


def test_smaller_sizes_are_paid_one_by_one(draw):
    cell = replace(cells(draw(6, 1, static_variance=0.5))[0], kind="size")
    budget = 1.5
    found = race(StoppingRule(RiskLaw(0.05, 0.01, 0.5)), cell, budget)
    spent = sum(cell.costs[cell.costs <= depth * (1 + 1e-9)].sum() for depth in found.depths)
    assert found.spent == pytest.approx(spent)
    assert found.depths.sum() < spent <= budget * (1 + 1e-9)


def test_with_clear_differences_a_race_goes_deeper_than_a_fixed_depth(draw):
    cell = cells(draw(8, 1, seed=5, static_variance=0.4, intrinsic=0.001, scale=0.002))[0]
    fixed = fixed_depth(cell, 0.1)
    found = race(StoppingRule(RiskLaw(0.01, 0.02, 0.5)), cell, fixed.spent)
    assert found.depths.max() > 0.1 > found.depths.min()
    assert {d.reason for d in found.decisions} == {"breadth", "budget"}
    assert regret(cell, found.chosen)[0] <= regret(cell, fixed.chosen)[0]


def test_the_relative_law_does_not_depend_on_scale_or_offset(two_tasks):
    other = replace(two_tasks, outcomes=3 * two_tasks.outcomes + 1, probes=3 * two_tasks.probes + 7)
    one, two = relative_law(two_tasks), relative_law(other)
    np.testing.assert_allclose(
        [one.intrinsic, one.scale, one.decay], [two.intrinsic, two.scale, two.decay], rtol=1e-6
    )


def test_the_comparison_with_fixed_depths(two_tasks):
    table = compare_depths(two_tasks, depths=(0.05, 0.25))
    assert len(table) == 2 * 3 * 2 * 2
    wide = table.pivot_table(index=["task", "seed", "depth"], columns="way", values="spent")
    assert (wide["rule"] <= wide["fixed"] + 1e-9).all()
    summary = compare_with_hindsight(table, n_draws=200)
    assert summary["depth"].tolist() == ["5%", "25%", "hindsight"]
    assert (summary["lower90"] <= summary["difference"] + 1e-9).all()
    subsets = compare_depths(two_tasks, depths=(0.25,), n_candidates=7)
    assert subsets["regret_share"].between(0, 1).all()
    more = compare_depths(two_tasks, depths=(0.25,), n_candidates=9)
    assert more.equals(compare_depths(two_tasks, depths=(0.25,)))


def test_one_task_with_one_seed_is_refused(draw):
    with pytest.raises(ValueError, match="second task or seed"):
        compare_depths(draw(8, 1))
