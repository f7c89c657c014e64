from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lensllm.curvature import NTKLoss
from lensllm.laws import LensLLMLaw
from lensllm.studies.curvature.prediction import (
    compare_with_rectified,
    law_variants,
    validate_forward,
)

SIZES = np.array([0, 200, 400, 800, 1600, 3200, 6400])
RNG = np.random.default_rng(0)
NTK = {
    name: NTKLoss(np.sort(RNG.exponential(1.0, 8))[::-1], 4 * RNG.normal(size=8), 1e-3)
    for name in "ab"
}


@pytest.fixture
def curves():
    """Curves of LensLLM's law at t = 25, which is what `best_step` says."""
    rows = []
    for name, params in (("a", [6.0, 0.4, 25.0, 2.0]), ("b", [9.0, 0.35, 25.0, 1.5])):
        losses = LensLLMLaw(NTK[name])(SIZES, params)
        rows += [
            {
                "model": name,
                "dataset": "demo",
                "seed": 0,
                "n_samples": n,
                "test_loss": x,
                "best_step": 25,
            }
            for n, x in zip(SIZES, losses, strict=True)
        ]
    rows.append({**rows[-1], "model": "unknown"})
    return pd.DataFrame(rows)


def test_laws_that_hold_are_right_and_the_others_are_not(curves):
    table = validate_forward(curves, NTK)
    assert set(table["model"]) == {"a", "b"}
    # Budgets 1600 and 3200 leave two sizes and one.
    assert (table.groupby(["law", "model"]).size() == 3).all()
    assert (table["n_samples"] > table["max_n_samples"]).all()
    result = compare_with_rectified(table)
    for law in ("rectified", "lensllm", "lensllm_phase"):
        assert result.loc[law, "rmse_log"] < 1e-4
    assert result.loc["lensllm_start", "lower80"] > 3e-4


def test_the_observed_step_is_the_early_stopping_step_of_the_largest_size_fitted():
    laws = law_variants(NTK, {("demo", "a", 800.0): 25, ("demo", "a", 1600.0): 0})
    law = laws["lensllm_phase"]("demo", "a", 800.0)
    assert law.n_steps == 25
    assert law.ntk_loss is NTK["a"]
    assert laws["lensllm_phase"]("demo", "a", 1600.0).n_steps == 1  # at least one step
    assert laws["lensllm"]("demo", "b", 800.0).n_steps is None
    assert laws["lensllm_start"]("demo", "b", 800.0).n_steps == 0


def test_comparison_is_of_root_mean_squares_over_models():
    table = pd.DataFrame(
        {
            "law": ["rectified", "rectified", "lensllm", "lensllm"],
            "model": ["a", "b", "a", "b"],
            "log_error": [0.3, -0.1, 0.1, 0.1],
        }
    )
    result = compare_with_rectified(table)
    assert result.loc["rectified", "rmse_log"] == pytest.approx(np.sqrt(0.05))
    assert result.loc["lensllm", "difference"] == pytest.approx(0.1 - np.sqrt(0.05))
    assert result.loc["lensllm", "lower80"] == pytest.approx(-0.2)
    assert result.loc["lensllm", "upper80"] == pytest.approx(0.0)
