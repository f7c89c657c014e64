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


def test_rank_by_byte_replays_the_loss_per_byte(benchmark):
    assert replay_runner(benchmark, rank_by="byte").truth() == {"a": 3.0, "b": 3.5}


def test_an_unknown_candidate_is_named(benchmark):
    with pytest.raises(ValueError, match=r"recorded on 'x' \(a, b\), got 'c'"):
        replay_runner(benchmark, models=["a", "c"])


def test_an_unrecorded_full_size_is_refused(benchmark):
    with pytest.raises(ValueError, match="n_samples = 400"):
        replay_runner(benchmark, n_samples_full=400)
