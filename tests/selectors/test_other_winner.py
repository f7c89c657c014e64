from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lensllm.core.curves import read_curves
from lensllm.core.prior_curves import PriorCurves
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import OtherWinner


def table(losses):
    return pd.DataFrame(
        [
            {"model": m, "dataset": ds, "n_samples": n, "seed": 0, "test_loss": x}
            for ds, models in losses.items()
            for m, x in models.items()
            for n in (100, 200)
        ]
    )


def after(task, curves):
    """The task with curves of earlier ones."""
    return replace(task, prior_curves=PriorCurves(curves))


def test_means_relative_accuracy_over_the_other_data_sets(make_task, make_curves):
    prior = table(
        {
            "x": {"a": 1.0, "b": 2.0, "c": 3.0},
            "y": {"a": 5.0, "b": 4.0},
            "demo": {"c": 0.1, "a": 9.0},
        }
    )
    selection = OtherWinner().rank(after(make_task("abcd"), prior), make_curves({}))
    scores = {e.model: -e.score for e in selection.ranking}
    # x: a 1, b 0.5, c 0; y: a 0, b 1; the task's own data set does not count
    assert scores["b"] == pytest.approx(0.75)
    assert scores["a"] == pytest.approx(0.5)
    assert [e.model for e in selection.ranking] == ["b", "a", "c", "d"]
    assert selection.ranking[3].status == "not in the other data sets"


def test_relative_accuracy_on_the_recorded_benchmark(benchmark_dir):
    curves = read_curves(benchmark_dir / "rsl")
    values = []
    for dataset in ("flan", "wmt19", "gigaword"):
        runner = ReplayRunner(curves, dataset)
        truth = runner.truth()
        best = OtherWinner().rank(after(runner.task(), curves), curves).best.model
        losses = np.array(list(truth.values()))
        values.append((losses.max() - truth[best]) / np.ptp(losses))
    assert np.mean(values) == pytest.approx(0.948, abs=5e-4)


def test_reads_a_folder(tmp_path, make_task, make_curves, write_wide):
    for name, rows in table({"x": {"a": 1.0, "b": 2.0}}).groupby("dataset"):
        write_wide(rows, tmp_path / f"{name}.csv")
    task = replace(make_task("ab"), prior_curves=PriorCurves.read(tmp_path))
    selection = OtherWinner().rank(task, make_curves({}))
    assert selection.best.model == "a"


def test_no_prior_curves_is_refused(make_task, make_curves):
    with pytest.raises(ValueError, match="`prior_curves` of other data sets"):
        OtherWinner().rank(make_task(), make_curves({}))
    own = table({"demo": {"a": 1.0}})
    best = OtherWinner().rank(after(make_task(), own), make_curves({})).best
    assert best.status == "not in the other data sets"
