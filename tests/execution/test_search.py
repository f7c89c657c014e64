"""Searches for settings by asking Optuna and telling it."""

import csv
import math

import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.execution.search import Range, search

RATE = Range("lr", 1e-4, 1.0, log=True)
SIZE = Range("batch", choices=(16, 32))


def run(values):
    """Best at lr = 0.01 with a batch of 32; diverges above 0.1, and fails below 0.001."""
    trial = Trial("a", "toy", 10)
    if values["lr"] < 1e-3:
        return TrialResult.failure(trial, "no power")
    status = "completed" if values["lr"] <= 0.1 else "diverged"
    loss = math.log10(values["lr"] / 0.01) ** 2 + (values["batch"] == 16)
    return TrialResult(trial, status, loss, validation_loss=loss)


def test_it_nears_the_best_settings_and_a_bad_trial_fails_alone():
    found = search(run, [RATE, SIZE], n_trials=40, n_random=10)
    assert len(found) == 40
    statuses = [result.status for _, result in found]
    assert {"completed", "diverged", "failed"} == set(statuses)
    assert statuses[20:].count("completed") > statuses[:20].count("completed")
    best = min(
        (got.validation_loss, values["batch"], values["lr"])
        for values, got in found
        if got.status == "completed"
    )
    assert best[1] == 32
    assert 0.005 < best[2] < 0.02


def test_the_seed_decides():
    settings = [
        [values for values, _ in search(run, [RATE, SIZE], n_trials=5, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert settings[0] == settings[1] != settings[2]


@pytest.mark.parametrize(
    "span",
    [
        {"low": 1.0, "high": 1.0},
        {"low": 1.0},
        {"low": 0.0, "high": 1.0, "log": True},
        {"low": 0.0, "high": 1.0, "choices": [1]},
        {"choices": []},
        {"low": 0.0, "high": math.inf},
        {},
    ],
    ids=str,
)
def test_ranges_that_are_none(span):
    with pytest.raises(ValueError, match=rf"of lr, got low={span.get('low')}, high="):
        Range("lr", **span)


def test_nothing_to_search_is_told():
    with pytest.raises(
        ValueError, match="at least one setting with its range in `space`, got none"
    ):
        search(run, [])


def test_as_a_command(run_main, model_folders, jsonl_300, tmp_path):
    from lensllm.commands.search import main

    def searched(*overrides):
        return run_main(
            main,
            "model=source",
            f"model.source={model_folders['gpt2']}",
            "dataset=jsonl",
            f"dataset.path={jsonl_300}",
            "dataset.max_evaluation=20",
            "training.max_epochs=1",
            "n_samples=16",
            "n_trials=3",
            "logger=none",
            f"paths.output_dir={tmp_path}",
            *overrides,
        )

    done = searched("space=[{name:optimizer.lr,choices:[1e-3,1e30]}]")
    assert done.code == 0, done.err
    (path,) = tmp_path.glob("search/*/search.csv")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 3
    assert {(row["optimizer.lr"], row["status"]) for row in rows} == {
        ("0.001", "completed"),
        ("1e+30", "diverged"),
    }
    assert "best: optimizer.lr=0.001\n" in done.out
    done = searched("space=[{name:optimizer.lr,choices:[1e30]}]")
    assert done.code == 2
    assert "Expected a trial that completes, got none of 3; the last one: diverged" in done.err
    assert "did you mean optimizer.lr?" in searched("space=[{name:optimizer.lrr,choices:[1]}]").err
