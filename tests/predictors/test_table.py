import math

import numpy as np
import pandas as pd

from lensllm.core.task import Candidate
from lensllm.predictors import LossTable

CURVES = pd.DataFrame(
    [
        ("a", 0, 0, 9.0, 0.1),
        ("a", 200, 0, 2.0, 0.2),
        ("a", 200, 1, 4.0, math.nan),
        ("a", 400, 0, math.nan, 0.1),
        ("b", 400, 0, 1.5, 0.3),
        ("c", 200, 0, 1.0, 0.1),
    ],
    columns=["model", "n_samples", "seed", "test_loss", "test_loss_se"],
)


def test_runs_are_averaged_and_what_cannot_be_used_is_a_gap():
    table = LossTable.from_curves([Candidate("b", family="x"), Candidate("a")], CURVES)
    assert table.models == ("b", "a")
    assert table.sizes.tolist() == [200, 400]
    np.testing.assert_allclose(np.exp(table.log_loss), [[math.nan, 1.5], [3.0, math.nan]])
    assert table.n_runs.tolist() == [[0, 1], [2, 0]]
    np.testing.assert_allclose(table.error, [[0, 0.2], [0.1, 0]])
    assert table.seen.tolist() == [[False, True], [True, False]]


def test_candidates_without_a_family_are_their_own():
    table = LossTable.from_curves(
        [Candidate("a"), Candidate("b", family="x"), Candidate("c", family="x")], CURVES
    )
    index = table.family_index
    assert index[1] == index[2]
    assert index[0] != index[1]
    assert len(set(table.take(np.array([0, 1])).family_index)) == 2
    assert table.at(np.array([True, False])).sizes.tolist() == [200]
