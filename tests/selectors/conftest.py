import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def make_curves():
    """A tidy table from {model: {D: loss}}."""

    def make(losses):
        rows = [
            {"model": m, "dataset": "demo", "n_samples": d, "seed": 0, "test_loss": x}
            for m, points in losses.items()
            for d, x in points.items()
        ]
        columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({"n_samples": np.int64, "test_loss": float})

    return make
