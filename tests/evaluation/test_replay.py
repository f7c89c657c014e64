from dataclasses import replace

import pandas as pd
import pytest

from lensllm.evaluation import Benchmark
from lensllm.evaluation.replay import replay_runner


@pytest.fixture
def benchmark():
    rows = [
        {"model": m, "dataset": d, "n_samples": n, "seed": s, "test_loss": loss - s / 8}
        | {"test_loss_per_byte": 5.0 - loss}
        for d in ("x", "y")
        for s in (0, 1)
        for m, n, loss in (("a", 0, 3.0), ("a", 200, 2.0), ("b", 0, 3.5), ("b", 200, 1.5))
    ]
    return Benchmark("made", pd.DataFrame(rows))


def test_defaults_are_the_first_data_set_and_seed(benchmark):
    runner = replay_runner(benchmark)
    assert (runner.dataset, runner.seed, runner.n_samples_full) == ("x", 0, 200)
    assert runner.truth() == {"a": 2.0, "b": 1.5}


def test_data_set_seed_and_candidates_can_be_chosen(benchmark):
    runner = replay_runner(benchmark, "y", seed=1, models=["b"])
    assert runner.truth() == {"b": 1.375}


def test_a_measure_is_replayed_beside_the_loss_per_token(benchmark):
    runner = replay_runner(replace(benchmark, measure="loss_per_byte"))
    assert runner.truth() == {"a": 3.0, "b": 3.5}
    result = runner.run(runner.task().trial("a", 200))
    assert (result.test_loss, result.test_loss_per_byte) == (2.0, 3.0)
    without = benchmark.curves.drop(columns="test_loss_per_byte")
    with pytest.raises(ValueError, match=r"'test_loss_per_byte' .* for measure=loss_per_byte"):
        replace(benchmark, curves=without, measure="loss_per_byte")


def test_an_unknown_candidate_is_named(benchmark):
    with pytest.raises(ValueError, match=r"recorded on 'x' \(a, b\), got 'c'"):
        replay_runner(benchmark, models=["a", "c"])


def test_an_unrecorded_full_size_is_refused(benchmark):
    with pytest.raises(ValueError, match="n_samples = 400"):
        replay_runner(benchmark, n_samples_full=400)
