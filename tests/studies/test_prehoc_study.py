import numpy as np
import pytest

from lensllm.prehoc.process import SyntheticProcess
from lensllm.studies.prehoc.study import recovery, regimes

COSTS = np.geomspace(0.01, 1.0, 12)


def test_recovery_and_the_price_of_a_wrong_depth():
    table = recovery(SyntheticProcess(), COSTS, [400], [0.03], n_repetitions=25, n_draws=100)
    row = table.iloc[0]
    assert row["decay_median"] == pytest.approx(0.6, abs=0.1)
    assert min(row[f"{name}_covered"] for name in ("intrinsic", "scale", "decay")) >= 0.7
    said = ["power", "exponential", "constant", "undecided"]
    assert sum(row[f"said_{name}"] for name in said) == pytest.approx(1.0)
    assert 0 <= row["excess_0.03"] < 0.1
    assert row["distance_0.03"] < 0.25


def test_regimes_of_a_clear_process():
    clear = {"noise": SyntheticProcess(0.01, 0.02, 0.4, 0.001, 0.6)}
    row = regimes(clear, COSTS, 8, 4, n_repetitions=4, n_draws=50).iloc[0]
    assert row["truth"] == "noise-dominant"
    assert row["noise-dominant"] >= 0.75
    assert row["intrinsic"] == pytest.approx(0.4 / 0.43)
