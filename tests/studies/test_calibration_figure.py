import numpy as np
import pandas as pd

from lensllm.studies.selectors.calibration_figure import calibration_figure


def test_it_shows_what_was_said_and_what_was_true():
    rows = pd.DataFrame(
        {
            "dataset": ["x", "y"] * 4,
            "budget_fraction": [0.1, 0.1, 0.2, 0.2] * 2,
            "p_best": [0.3, 0.3, 0.9, 0.9] * 2,
            "right": [True, False, True, True] * 2,
            "coverage80": [0.5, 0.7, 0.8, 1.0] * 2,
        }
    )
    left, right = calibration_figure(rows).axes
    said, true = (np.asarray(values, dtype=float) for values in left.lines[1].get_data())
    np.testing.assert_allclose(said, [0.3, 0.9])
    np.testing.assert_allclose(true, [0.5, 1.0])
    budgets, covered = (np.asarray(v, dtype=float) for v in right.lines[1].get_data())
    np.testing.assert_allclose(budgets, [10.0, 20.0])
    np.testing.assert_allclose(covered, [0.6, 0.9])
