"""Which laws the command fits, and what it says where they cannot be fitted."""

import numpy as np
import pandas as pd
import pytest

from lensllm.commands.fit import main
from lensllm.laws import RectifiedLaw


@pytest.fixture
def fit(run_main, tmp_path):
    """Fit curves of a number of sizes by the command, in a folder of the test."""

    def fit(n_sizes, *words):
        sizes = 100 * 2 ** np.arange(n_sizes)
        table = pd.DataFrame({"model": "a", "dataset": "toy", "n_samples": sizes, "seed": 0})
        losses = RectifiedLaw()(sizes, [60.0, 0.5, 30.0, 1.0])
        table.assign(test_loss=losses).to_csv(tmp_path / "curves.csv", index=False)
        words = [f"curves={tmp_path / 'curves.csv'}", f"hydra.run.dir={tmp_path}", *words]
        return run_main(main, *words, "figures=false", "n_starts=4")

    return fit


def test_a_list_of_laws_compares_each_once(fit, tmp_path):
    done = fit(8, "law=[power,all]", "forward=false", "predict_at=12800")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "fits.csv")
    assert table["law"].tolist() == ["power", "rectified", "vanilla"]
    assert np.isfinite(table["loss_at_12800"]).all()
    done = fit(8, "law=[power,vanilla]", "law.with_alpha=true")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "with law=[power,vanilla], got law.with_alpha=true" in done.err


def test_what_a_law_lacks_is_said_in_words(fit):
    for law in ("lensllm", "[rectified,lensllm]"):
        done = fit(4, f"law={law}")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "of law.ntk_loss.rates, law.ntk_loss.weights, got none" in done.err
    done = fit(3)
    assert done.code == 2
    assert "the power law (law=power) fits from 3 sizes" in done.err
