"""The evaluation's entry points on a hand-made benchmark."""

import pandas as pd
import pytest

from scripts import evaluate_selection, make_tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    sizes = [0, *(200 * 2**i for i in range(7))]
    for name, best in (("news", 0), ("code", 2)):
        rows = [",".join(["model", *map(str, sizes)])]
        for i in range(4):
            slope = 0.2 if i == best else 0.1
            losses = [f"{(3 + 0.1 * i) * (n + 50) ** -slope:.6f}" for n in sizes]
            if i == 3:
                losses[2] = ""
            rows.append(",".join([f"m{i}", *losses]))
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_evaluate_a_folder_of_ones_own(folder, tmp_path, run_main):
    done = run_main(
        evaluate_selection.main,
        "benchmark=csv",
        f"benchmark.path={folder}",
        "selectors=[ats,zero_shot,{last_3_line: {seed: 1}}]",
        "budget_ratios=[4,8]",
        "budget_fractions=[0.3]",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.code == 0, done.err
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert list(scores.columns[:13]) == [
        *("dataset", "selector", "n_samples_full", "max_n_samples", "seed", "pearson"),
        *("spearman", "relative_accuracy", "regret", "top3_hit", "log_rmse", "coverage80"),
        "cost_fraction",
    ]
    assert "code,ats,12800,3200,0," in (tmp_path / "scores.csv").read_text()  # whole D_max
    assert len(scores) == 2 * 3 * 3
    ats = scores[(scores["selector"] == "ats") & (scores["max_n_samples"] == 3200)]
    assert ats.set_index("dataset")["selected"].to_dict() == {"code": "m2", "news": "m0"}
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert list(predictions.columns[:10]) == [
        *("dataset", "selector", "max_n_samples", "n_samples_full", "seed", "model"),
        *("predicted_loss", "lower80", "upper80", "true_loss"),
    ]
    assert "last_3_line" in done.out
    caption = (tmp_path / "summary.md").read_text()
    assert "D_full (candidates): code 12800 (4), news 12800 (4)." in caption
    assert "Command: lensllm evaluate benchmark=csv benchmark.path=" in caption


@pytest.mark.parametrize(
    ("script", "overrides", "message"),
    [
        (evaluate_selection, ["selectors=[nope]"], "got 'nope'"),
        (evaluate_selection, ["+typo=1"], "typo"),
        (evaluate_selection, ["benchmark.path=/no/such"], "found nothing at /no/such"),
        (make_tables, ["table=nope"], "`table` to be all or one of"),
        (make_tables, ["table=rsl_table1"], "benchmark=rsl for rsl_table1, got 'csv'"),
    ],
)
def test_bad_input_is_one_line(folder, tmp_path, run_main, script, overrides, message):
    given = ["benchmark=csv", f"benchmark.path={folder}", f"hydra.run.dir={tmp_path}"]
    done = run_main(script.main, *given, *overrides)
    assert done.code == 2
    assert message in done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err


def test_make_tables_of_ones_own_curves(folder, tmp_path, run_main):
    given = ["benchmark=csv", f"benchmark.path={folder}", f"hydra.run.dir={tmp_path}"]
    small = ["selectors=[ats,sub_tuning]", "budget_ratios=[4]", "budget_fractions=[]"]
    done = run_main(make_tables.main, *given, *small, "n_resamples=20")
    assert done.code == 0, done.err
    assert (tmp_path / "csv_summary.tex").is_file()
    assert (tmp_path / "csv_accuracy_against_cost.png").stat().st_size > 5000
