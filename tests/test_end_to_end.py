"""From a file and model folders to a chosen model; a sweep that is killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from lensllm.core.trials import TrialStore

ROOT = Path(__file__).resolve().parents[1]
SIZES = (0, 12, 24, 48, 96)
SWEPT = (0, 12, 48)
SMALL = [
    "dataset=jsonl",
    "dataset.max_input_tokens=48",
    "dataset.max_evaluation=20",
    "logger=none",
    "trainer.enable_progress_bar=false",
    "training.max_epochs=1",
    "training.n_evaluations=2",
]


@pytest.fixture
def select(run_main, model_folders, jsonl_300, tmp_path):
    from scripts.select_model import main

    def run(*overrides, name="first", models=("gpt2", "t5")):
        folders = ",".join(str(model_folders[model]) for model in models)
        out = tmp_path / name
        done = run_main(
            main,
            "candidates=custom",
            f"candidates.models=[{folders}]",
            f"dataset.path={jsonl_300}",
            *SMALL,
            "n_samples_full=192",
            f"sizes={list(SIZES)}".replace(" ", ""),
            f"paths.output_dir={tmp_path}",
            f"hydra.run.dir={out}",
            *overrides,
        )
        return done, out

    return run


@pytest.mark.slow
def test_own_file_and_folders_to_a_chosen_model(select, tmp_path):
    done, out = select("selector=sub_tuning", "budget.fraction=0.5")
    assert done.code == 0, done.err
    record = json.loads((out / "selection.json").read_text())
    store = TrialStore(tmp_path / "trials")
    stored = {(r.trial.model, r.trial.n_samples): r for r in store.results()}
    names = {"tiny-gpt2", "tiny-t5"}
    assert {entry["model"] for entry in record["ranking"]} == names
    # Sub-tuning by hand: the smallest loss at the largest size that was run for both.
    largest = max(size for _, size in stored)
    losses = {name: stored[name, largest].test_loss for name in names}
    assert record["selected"] == min(losses, key=losses.get)
    assert record["cost_flops"] == pytest.approx(sum(r.flops for r in stored.values()))
    assert 0 < record["cost_fraction"] <= 0.5
    assert record["dataset"] == "own"
    assert record["n_samples_full"] == 192
    (fingerprint,) = {r.trial.settings["data"] for r in stored.values()}
    assert record["data_fingerprint"] == fingerprint == record["data"]["fingerprint"]
    assert record["data"]["n_train"] == 260
    assert record["settings"]["budget"]["fraction"] == 0.5
    assert "Fine-tune " + record["selected"] in done.out.replace("\n", " ")
    assert record["sentence"].startswith("Fine-tune " + record["selected"])
    assert len(pd.read_csv(out / "curves.csv")) == len(stored)
    assert (out / "curves.png").stat().st_size > 5000
    for entry in record["ranking"]:
        for point in entry["observed"]:
            assert point["test_loss"] == stored[entry["model"], point["n_samples"]].test_loss


@pytest.mark.slow
def test_running_it_again_asks_the_store_and_answers_the_same(select, tmp_path, monkeypatch):
    options = ("selector=ats", "budget.fraction=0.9", "reuse=false")
    first, out = select(*options, models=("gpt2", "opt"))
    assert first.code == 0, first.err
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    assert len(before) >= 6
    monkeypatch.setattr("lensllm.execution.finetune.run_trial", lambda *_, **__: pytest.fail("ran"))
    second, again = select(*options, name="second", models=("gpt2", "opt"))
    assert second.code == 0, second.err
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "trials").iterdir()} == before
    records = [json.loads((folder / "selection.json").read_text()) for folder in (out, again)]
    for record in records:
        del record["settings"], record["command"]  # which name the folder
    assert records[0] == records[1]


def sweep(folder, path, out):
    sizes = ",".join(map(str, SWEPT))
    return [
        "-m",
        "model=source",
        f"model.source={folder}",
        f"dataset.path={path}",
        *SMALL,
        f"n_samples={sizes}",
        "seed=0,1",
        f"paths.output_dir={out}",
    ]


def losses(store):
    return {r.trial.key: (r.test_loss, r.trace, r.n_steps, r.flops) for r in store.results()}


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(run_main, model_folders, jsonl_300, tmp_path):
    from scripts.train import main

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = sweep(model_folders["gpt2"], jsonl_300, killed)
    store = TrialStore(killed / "trials")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=tmp_path,
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 240
        while len(list(store.results())) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
    assert 2 <= len(finished) < 2 * len(SWEPT)

    done = run_main(main, *arguments)
    assert done.code == 0, done.err
    assert len(list(store.results())) == 2 * len(SWEPT)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished

    done = run_main(main, *sweep(model_folders["gpt2"], jsonl_300, whole))
    assert done.code == 0, done.err
    assert losses(store) == losses(TrialStore(whole / "trials"))
    columns = ["model", "dataset", "seed", "n_samples", "test_loss", "flops", "key"]
    expected = TrialStore(whole / "trials").curves()[columns]
    pd.testing.assert_frame_equal(store.curves()[columns], expected)
