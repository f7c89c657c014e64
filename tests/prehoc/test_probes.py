from dataclasses import replace

import numpy as np
import pytest

from lensllm.core.trials import Trial
from lensllm.prehoc.probes import planned_steps, size_probes, step_probes


def test_steps_are_read_off_the_traces(results):
    runs = step_probes(results, max_cost=0.5)
    assert len(runs) == 8
    assert runs.kind == "steps"
    np.testing.assert_allclose(runs.costs, [0.1, 0.2, 0.3, 0.4, 0.5])
    final = next(r for r in results if r.trial.n_samples == 800)
    np.testing.assert_allclose(runs.probes[0], [loss for _, loss in final.trace[:5]])
    assert runs.outcomes[0] == final.test_loss
    assert runs.static_names == ("log10_params", "zero_shot_loss", "zero_shot_loss_per_byte")
    assert runs.flops[0] == 4800


def test_a_run_that_stopped_early_keeps_its_last_loss_and_full_price(results):
    stopped = [
        replace(r, n_steps=75, trace=r.trace[:5]) if r.trial.n_samples == 800 else r
        for r in results
    ]
    assert planned_steps(stopped[2]) == 150
    runs = step_probes(stopped, max_cost=1.0)
    assert runs.costs[-1] == pytest.approx(0.5)
    assert runs.flops[0] == 9600  # 75 of 150 steps were charged


def test_sizes_are_other_trials(results):
    runs = size_probes(results)
    np.testing.assert_allclose(runs.costs, [0.25])
    assert runs.probes[0, 0] == next(r.test_loss for r in results if r.trial.n_samples == 200)


def test_data_sets_with_few_sizes_are_left_out_by_name(results, caplog):
    full = [r for r in results if r.trial.n_samples == 800]
    larger = [
        replace(r, trial=replace(r.trial, dataset="other", n_samples=n))
        for r in full
        for n in (50, 100, 200, 400, 800, 1600)
    ]
    zero = [replace(r, trial=replace(r.trial, dataset="other", n_samples=0)) for r in full]
    runs = size_probes([*results, *larger, *zero])
    assert runs.task_names == ("other",)
    np.testing.assert_allclose(runs.costs, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2])
    assert "fewer than 5 smaller sizes: data" in caplog.text
    named = size_probes([*results, *larger, *zero], n_samples={"data": 800, "other": 800})
    assert named.task_names == ("data", "other")
    np.testing.assert_allclose(named.costs, [0.25])


def test_what_is_missing_is_named(results):
    with pytest.raises(ValueError, match="zero-shot loss of 'm0' on 'data'"):
        step_probes([r for r in results if r.trial.n_samples])
    with pytest.raises(ValueError, match="traces of validation losses, found none"):
        step_probes([replace(r, trace=()) for r in results])
    with pytest.raises(ValueError, match="smaller size that all final runs"):
        size_probes([r for r in results if r.trial.n_samples != 200])
    with pytest.raises(ValueError, match="data sets among data, got 'other'"):
        step_probes(results, n_samples={"other": 5})
    with pytest.raises(ValueError, match="found none"):
        step_probes([])
    other = Trial("m0", "data", 800, 0, {"lr": 1})
    twice = [*results, replace(results[2], trial=other)]
    with pytest.raises(ValueError, match="one run of 'm0' on 'data' at D = 800 with seed 0"):
        step_probes(twice)
