from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lensllm.execution.replay import ReplayRunner
from lensllm.reports.words import decision_words
from lensllm.selectors import run_campaign
from lensllm.selectors.campaign import make_budget

YAML = Path(__file__).parents[2] / "conf" / "selector" / "adaptive.yaml"
SIZES = [200 * 2**k for k in range(11)]


@pytest.fixture
def runner():
    """Twelve noisy rectified laws with one exponent."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(12):
        bend, floor = rng.uniform(20.0, 120.0), 0.8 + 0.05 * ((5 * i) % 12)
        scale = rng.uniform(1.5, 2.5) * (bend + 200**0.5)
        for n in SIZES:
            noise = np.exp(0.002 * rng.standard_normal())
            rows.append(
                {"model": f"m{i}", "dataset": "demo", "n_samples": n, "seed": 0}
                | {"test_loss": noise * (scale / (bend + n**0.5) + floor), "n_params": 1e6}
            )
    return ReplayRunner(pd.DataFrame(rows), "demo")


def test_the_shipped_configuration_finds_a_good_candidate_for_little(runner):
    task, truth = runner.task(), runner.truth()
    budget = make_budget(task, fraction=0.1)
    selection, curves = run_campaign(instantiate(OmegaConf.load(YAML)), runner, budget)
    best, worst = min(truth.values()), max(truth.values())
    assert truth[selection.best.model] - best < 0.25 * (worst - best)
    assert selection.cost_fraction <= 0.1
    assert sum(entry.p_best for entry in selection.ranking) == pytest.approx(1.0)
    largest = curves.groupby("model")["n_samples"].max()
    assert largest[selection.best.model] > largest[selection.ranking[-1].model]
    said = " ".join(decision_words(selection))
    for words in ("start with D = ", "next ", "stopped ", "no more trials: "):
        assert words in said
