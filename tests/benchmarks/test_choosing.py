import pandas as pd
import pytest

from lensllm.benchmarks import Benchmark
from lensllm.benchmarks.choosing import choosing_judge
from lensllm.selection import ModelSize, SubTuning

SIZES = (200, 400, 800, 1600)


@pytest.fixture
def benchmark():
    """Losses in the order of the candidates at every size; parameters grow with the loss."""
    rows = [
        {"model": m, "dataset": d, "n_samples": n, "seed": 0, "n_params": 10.0 * (i + 1)}
        | {"test_loss": (3.0 + i) * n**-0.1}
        for d in ("x", "y")
        for i, m in enumerate("abcdef")
        for n in SIZES
    ]
    return Benchmark("demo", pd.DataFrame(rows))


def build(settings):
    return SubTuning() if settings["good"] else ModelSize()


def test_better_choices_score_higher_on_the_same_sets(benchmark):
    judge = choosing_judge(build, (0.2, 0.4), n_subsets=3, subset_size=4, seed=1)
    good, bad = judge(benchmark, {"good": True}), judge(benchmark, {"good": False})
    assert len(good) == len(bad) == 2 * 2 * 3
    assert set(good["dataset"]) == {"x", "y"}
    assert (good["score"] == 1.0).all()
    assert (bad["score"] == 0.0).all()
    pd.testing.assert_frame_equal(good, judge(benchmark, {"good": True}))
