import json

import pandas as pd

from lensllm.core.trials import TrialStore
from scripts.prehoc import main

QUIET = ("logger=none", "n_draws=50")


def out(tmp_path):
    return next(tmp_path.rglob("prehoc.json")).parent


def test_the_synthetic_process_end_to_end(run_main, tmp_path):
    done = run_main(main, "synthetic=true", *QUIET, f"paths.output_dir={tmp_path}", "n_costs=8")
    assert done.code == 0, done.err
    folder = out(tmp_path)
    table = pd.read_csv(folder / "tasks.csv").set_index("task")
    assert table.loc["synthetic-static", "regime"] == "static-sufficient"
    assert table.loc["synthetic-dynamic", "regime"] == "dynamic-critical"
    assert table.loc["synthetic-noise", "regime"] == "noise-dominant"
    assert {p.name for p in folder.glob("*.png")} == {"risk.png", "phases.png", "depths.png"}
    assert "σ²_int" in done.out


def test_a_trial_store_with_features_and_a_refused_task(run_main, tmp_path, results):
    store = TrialStore(tmp_path / "trials")
    for result in results:
        store.add(result)
    options = (f"trials={tmp_path / 'trials'}", f"paths.output_dir={tmp_path}")
    done = run_main(main, *options, *QUIET)
    assert done.code == 2
    assert "Expected at least 12 runs on 'data', got 8" in done.err


def test_one_seed_of_a_benchmark_is_refused_and_two_sources_too(run_main, tmp_path):
    done = run_main(main, "benchmark=zoo", "synthetic=true", f"paths.output_dir={tmp_path}")
    assert done.code == 2
    assert "Expected one of trials=FOLDER, benchmark=NAME and synthetic=true" in done.err
    done = run_main(main, f"trials={tmp_path / 'none'}", f"paths.output_dir={tmp_path}")
    assert done.code == 2
    assert "found no folder" in done.err


def test_recorded_curves_of_the_zoo_with_a_price_in_seconds(run_main, tmp_path):
    options = ("logger=csv", "n_draws=50", f"paths.output_dir={tmp_path}")
    price = ("price.unit=seconds", "price.amount=1e-5")
    done = run_main(main, "benchmark=zoo", *price, *options)
    assert done.code == 0, done.err
    record = json.loads((out(tmp_path) / "prehoc.json").read_text())
    assert {row["task"] for row in record["tasks"]} <= {"docstrings", "wiki"}
    assert all(row["price_per_run"] > 1e-5 for row in record["tasks"])
    assert list(tmp_path.rglob("metrics.csv"))
