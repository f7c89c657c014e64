"""A campaign takes in what was paid for before; one that was killed ends as an unbroken one."""

import json
import subprocess
import sys

import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.selectors.known_trials import Ledger


def results(*sizes):
    return [
        TrialResult(Trial("a", "toy", size, settings={"lr": 1}), "completed", test_loss=3.0)
        for size in sizes
    ]


def test_what_was_known_at_the_start_is_known_again_and_nothing_else(tmp_path):
    assert Ledger(tmp_path, "k").open(results(0, 8)) == results(0, 8)
    again = Ledger(tmp_path, "k")
    assert again.open(results(0, 8, 16)) == results(0, 8)
    assert Ledger(tmp_path, "other").open(results(16)) == results(16)
    again.close()
    assert Ledger(tmp_path, "k").open(results(0, 8, 16)) == results(0, 8, 16)


@pytest.mark.parametrize("text", ["", "[]", '{"known": ["x"], "digest": "0"}'])
def test_a_note_that_was_changed_is_set_aside(tmp_path, caplog, text):
    ledger = Ledger(tmp_path, "k")
    ledger.open(results(0))
    ledger.path.write_text(text)
    assert ledger.open(results(0, 8)) == results(0)  # of which there is a copy
    assert "Set aside" in caplog.text
    ledger.add(Trial("a", "toy", 8))
    ledger.path.write_text(text)
    resumed = Ledger(tmp_path, "k")
    assert resumed.open(results(0, 8)) == results(0)
    assert resumed.expected == ("a", 8)
    for path in (ledger.path, ledger.copy):
        path.write_text(text)
    assert ledger.open(results(0, 8)) == results(0, 8)


@pytest.mark.slow
def test_campaigns_share_what_was_paid_for(run_main, jsonl_300, tmp_path):
    from scripts.select_model import main

    def select(name, *overrides):
        done = run_main(
            main, "dataset=jsonl", f"dataset.path={jsonl_300}", "dataset.max_evaluation=16",
            "candidates.models=[gpt2-48x2,opt-64x2]", "n_samples_full=96", "sizes=[0,12,24,48]",
            "training.batch_size=8", "training.max_epochs=1", "logger=none", "selector=sub_tuning",
            f"paths.output_dir={tmp_path}", f"hydra.run.dir={tmp_path / name}", *overrides,
        )  # fmt: skip
        assert done.code == 0, done.err
        return json.loads((tmp_path / name / "selection.json").read_text())

    first = select("first", "budget.fraction=0.4")
    assert first["cost_flops"] > 0
    kept = select("kept", "budget.fraction=0.4", "reuse=false")
    assert kept["cost_flops"] == first["cost_flops"]
    assert kept["ranking"] == first["ranking"]
    again = select("again", "budget.fraction=0.4")
    assert again["cost_flops"] == 0
    assert again["selected"] == first["selected"]
    assert again["decisions"][0].startswith("already paid, and not charged: gpt2-48x2 at D = ")


KILLED = """
import os, sys
from lensllm.core.trials import TrialStore
add, left = TrialStore.add, [2]
def add_and_die(self, result):
    add(self, result)
    left[0] -= 1
    if not left[0]:
        os._exit(9)
TrialStore.add = add_and_die
from scripts.select_model import main
main()
"""


@pytest.mark.slow
def test_a_killed_campaign_ends_as_an_unbroken_one(jsonl_300, tmp_path):
    """Its own trials are charged when it is taken up, and no more are run than at once."""

    def command(store, name):
        return [
            "dataset=jsonl", f"dataset.path={jsonl_300}", "dataset.max_evaluation=16",
            "candidates.models=[gpt2-48x2,opt-64x2,llama-64x3]", "n_samples_full=96",
            "sizes=[12,24,48]", "training.batch_size=8", "training.max_epochs=1", "logger=none",
            "budget.fraction=0.7", f"paths.output_dir={tmp_path / store}",
            f"hydra.run.dir={tmp_path / name}",
        ]  # fmt: skip

    def run(code, store, name):
        return subprocess.run(
            [sys.executable, "-c", code, *command(store, name)],
            capture_output=True, text=True, cwd=".",
        )  # fmt: skip

    plain = "from scripts.select_model import main; main()"
    assert run(plain, "one", "whole").returncode == 0
    assert run(KILLED, "two", "killed").returncode == 9
    done = run(plain, "two", "taken_up")
    assert done.returncode == 0, done.stderr
    whole, taken_up = (
        json.loads((tmp_path / name / "selection.json").read_text())
        for name in ("whole", "taken_up")
    )
    for key in ("selected", "decisions", "ranking", "cost_flops"):
        assert taken_up[key] == whole[key]
    assert not list((tmp_path / "two" / "trials" / ".campaigns").iterdir())
