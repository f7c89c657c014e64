import numpy as np
import pandas as pd
import pytest

from lensllm.core.task import Candidate, Task


@pytest.fixture
def make_task():
    """A task of given sizes; a trial costs (position of the candidate + 1) * D."""

    def make(names="abc", sizes=(0, 200, 400, 800, 1600), full=6400, n_params=None):
        names = tuple(names)
        params = n_params or [10.0 * (i + 1) for i in range(len(names))]
        return Task(
            "demo",
            tuple(Candidate(n, p) for n, p in zip(names, params, strict=True)),
            full,
            {n: tuple(sizes) for n in names},
            {(n, d): (i + 1.0) * d for i, n in enumerate(names) for d in (*sizes, full)},
        )

    return make


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
