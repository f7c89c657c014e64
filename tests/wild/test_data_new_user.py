"""Three data sets of a new user, each from file to answer with one command and no renaming."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.select_model import main as select_main
from tests.wild.data import (
    alpaca_rows,
    labelled_table,
    sharegpt_rows,
    write_array,
    write_json_lines,
)


def alpaca(folder):
    return write_array(folder / "alpaca_data.json", alpaca_rows())


def sharegpt(folder):
    return write_json_lines(folder / "sharegpt.jsonl", sharegpt_rows())


def parquet(folder):
    table = labelled_table()
    path = folder / "reviews" / "data"
    path.mkdir(parents=True)
    parts = table.train_test_split(test_size=15, seed=0)
    parts["train"].to_parquet(path / "train-00000-of-00001.parquet")
    parts["test"].to_parquet(path / "test-00000-of-00001.parquet")
    return folder / "reviews"


@pytest.mark.parametrize("make", [alpaca, sharegpt, parquet])
def test_from_file_to_answer_with_one_command(tmp_path, run_main, make):
    path = make(tmp_path)
    run = run_main(
        select_main, "dataset=file", f"dataset.path={path}",
        # what makes it short
        "candidates.models=[gpt2-48x2,opt-64x2]", "selector=sub_tuning", "budget.fraction=1",
        "training.max_epochs=1", "training.n_evaluations=1", "logger=none",
        f"paths.output_dir={tmp_path}/out",
    )  # fmt: skip
    assert run.code == 0, run.err
    (written,) = (tmp_path / "out").rglob("selection.json")
    selection = json.loads(written.read_text())
    assert selection["dataset"] == path.name.partition(".")[0]
    assert {entry["status"] for entry in selection["ranking"]} == {"ranked"}
    sizes = {make: len(labelled_table()) for make in (alpaca, sharegpt, parquet)}
    data = selection["data"]
    assert data["n_train"] + data["n_validation"] + data["n_test"] == sizes[make]
    assert data["leaked"]["inputs"] == 0


def test_a_wrong_field_is_told_within_five_seconds_of_cpu(tmp_path):
    rows = [{"frage": f"q {i}", "antwort": f"a {i}"} for i in range(60)]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    root = Path(__file__).parents[2]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for dataset in ("file", "chat"):
        done = subprocess.run(
            [sys.executable, root / "scripts" / "select_model.py", f"dataset={dataset}",
             f"dataset.path={path}", "candidates=small", f"paths.output_dir={tmp_path}"],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "frage, antwort" in done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = sum(getattr(after, n) - getattr(before, n) for n in ("ru_utime", "ru_stime"))
    assert spent < 10  # of both; torch is not imported and no hub is asked
