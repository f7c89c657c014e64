import logging

import numpy as np

from lensllm.prehoc.probing import Price
from lensllm.studies.prehoc.analysis import analyze
from lensllm.studies.prehoc.load import concatenate


def test_a_refused_task_does_not_take_the_others_with_it(draw, caplog):
    good, poor = draw(8, 2, task="good"), draw(2, 8, seed=1, task="poor")
    with caplog.at_level(logging.WARNING):
        found = analyze(concatenate([good, poor]), Price(1e-3), n_draws=50)
    assert [task.decomposition.task for task in found.tasks] == ["good"]
    assert "at least 4 models on 'poor', got 2" in found.refused["poor"]
    assert set(found.depths["task"]) == {"good"}
    alone = analyze(good, Price(1e-3), n_draws=50)
    assert found.table().equals(alone.table())
    assert found.comparison.equals(alone.comparison)


def test_runs_that_share_no_seed_are_analysed_without_a_comparison(draw, caplog):
    runs = draw(8, 2)
    runs.seeds[:] = np.arange(len(runs))
    with caplog.at_level(logging.WARNING):
        found = analyze(runs, Price(1e-3), n_draws=50)
    assert len(found.tasks) == 1
    assert found.depths.empty
    assert found.comparison.empty
    assert "Left out the comparison with fixed depths: Expected three models" in caplog.text
