from functools import partial

import pandas as pd
import pytest

from lensllm.core.trials import Trial, TrialStore
from lensllm.data.pairs import make_text_data
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import ModelSource, TrainingSettings
from lensllm.studies.takeover.comparison import (
    OTHER_SEED,
    compare_forecasts,
    compare_points,
    relative_cost,
)
from lensllm.studies.takeover.report import takeover_table
from lensllm.studies.takeover.trials import START, new_pairs, run_ways


def test_chains_go_on_from_the_weights_of_the_smaller_trial(
    model_folders, text_data, make_parts, tmp_path
):
    def make(sources, data, settings):
        store, parts = TrialStore(tmp_path / "trials"), make_parts()
        more = {"keep_weights": "all", "checkpoint_minutes": None}
        return FineTuneRunner(sources, data, **parts, settings=settings, store=store, **more)

    settings = TrainingSettings(batch_size=8, max_epochs=2, n_evaluations=1)
    source = ModelSource(str(model_folders["gpt2"]))
    run = partial(run_ways, make, text_data, source, settings, [16, 32], 0)
    rows = list(run())
    steps = {(row["way"], row["n_samples"]): row["n_steps"] for row in rows}
    assert steps == {
        (START, 16): 4, (START, 32): 8,
        ("all pairs", 16): 4, ("all pairs", 32): 8,
        ("new pairs", 16): 4, ("new pairs", 32): 4,
        ("one epoch", 16): 4, ("one epoch", 32): 4,
    }  # fmt: skip
    assert len({row["test_loss"] for row in rows}) == 5  # the first trial is that of all chains
    n_stored = len(list(TrialStore(tmp_path / "trials").results()))
    assert list(run()) == rows
    assert len(list(TrialStore(tmp_path / "trials").results())) == n_stored == 5
    # Before its first step, a trial that takes over is where the smaller one ended.
    start = make([source], text_data, settings)
    smaller = start.attempt(Trial(source.name, "toy", 16, 0))
    kept = ModelSource(str(start.weights.path(smaller.trial)), name=source.name)
    later = make([kept], text_data, settings)
    untrained = later.attempt(Trial(source.name, "toy", 0, 0))
    assert untrained.test_loss == pytest.approx(smaller.test_loss, rel=1e-6)
    encodings = {runner.complete(smaller.trial).settings["encoding"] for runner in (start, later)}
    assert len(encodings) == 1


def test_new_pairs_are_those_of_the_larger_subset_alone():
    pairs = [(f"x{i}", f"y{i}") for i in range(40)]
    data = make_text_data("t", pairs[:30], pairs[30:35], pairs[35:])
    trials = [Trial("a", "t", n, 3) for n in (5, 10, 30)]
    parts = [new_pairs(data, trials[i], trials[i + 1]).train for i in (0, 1)]
    assert [len(part) for part in parts] == [5, 20]
    assert not set(parts[0]) & set(parts[1])


def test_ways_are_compared_with_trials_from_the_start():
    # Taking over gains the more, the worse a model is: at D = 400 the order turns around.
    start = {"a": (4.0, 3.0, 2.0, 1.0), "b": (4.0, 3.2, 2.4, 1.6), "c": (4.0, 3.4, 2.6, 2.0)}
    later = {"a": (4.0, 3.0, 1.9, 1.0), "b": (4.0, 2.9, 1.8, 1.0), "c": (4.0, 2.5, 1.7, 0.9)}
    table = pd.DataFrame(
        [
            {"dataset": "t", "model": model, "seed": seed, "n_samples": n, "way": way,
             "test_loss": loss + 0.01 * seed, "flops": n / (1 + (way != START))}
            for way, models in ((START, start), ("all pairs", later))
            for model, curve in models.items()
            for n, loss in zip((100, 200, 400, 800), curve, strict=True)
            for seed in (0, 1)
        ]
    )  # fmt: skip
    points = compare_points(table)
    at = points.set_index(["seed", "n_samples", "way"])
    assert set(points.loc[points["n_samples"] == 100, "way"]) == {START, OTHER_SEED}
    row = at.loc[0, 400, "all pairs"]
    assert row["difference"] == pytest.approx(-1.6 / 3)
    assert row["rank_correlation"] == pytest.approx(-1.0)
    assert not row["same_best"]
    assert row["full_correlation"] == pytest.approx(-1.0)
    assert row["regret"] == pytest.approx(1.0)
    assert at.loc[0, 400, START]["regret"] == 0
    # One of three took over: whichever did is taken.
    assert row["mixed_regret"] == pytest.approx((0 + 0.6 + 1.0) / 3)
    noise = at.loc[0, 400, OTHER_SEED]
    assert noise["difference"] == pytest.approx(0.01)
    assert noise["rank_correlation"] == pytest.approx(1.0)
    cost = relative_cost(table)
    assert cost.loc["t", "all pairs"] == pytest.approx(0.5)
    forecasts = compare_forecasts(table)
    by = forecasts.groupby(["selector", "way"])["regret"].mean()
    assert by["last_3_line", START] == 0
    assert by["last_3_line", "all pairs"] == pytest.approx(1.0)
    lines = takeover_table(points, forecasts, cost).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == [START, OTHER_SEED, "all pairs"]
    assert lines[4].endswith(" | 50% |")
    assert "| 0 of 2 / 0 of 2 / 0 of 2 |" in lines[4]
