"""The files and commands of docs/extending.md are a user's own: they run from a folder of his."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {
    name: text
    for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", PAGE, flags=re.DOTALL)
}
COMMANDS = re.findall(
    r"^PYTHONPATH=\. lensllm (.+)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE
)


def shown(word):
    """Command and arguments that the page shows, found by one of its words."""
    (found,) = [words for words in map(shlex.split, COMMANDS) if word in words]
    return found


@pytest.fixture
def run(tmp_path):
    """Run a script of the checkout in a folder that has the files."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(*arguments):
        found = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
        return subprocess.run(
            [sys.executable, "-m", "lensllm", *arguments, "hydra.run.dir=run"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"},
        )

    return run


def test_the_files_are_small():
    limits = {"my_selector.py": 40, "my_law.py": 60, "my_runner.py": 50, "my_executor.py": 35}
    configs = {"selector/climb", "law/logarithmic", "runner/ngrams", "executor/threads"}
    configs |= {"selector/logarithmic_fit"}
    assert set(FILES) == {*limits, *(f"conf/{name}.yaml" for name in configs)}
    for name, limit in limits.items():
        assert len(FILES[name].splitlines()) < limit


def test_select_takes_the_selector(run, tmp_path):
    done = run(*shown("selector=climb"), "replay.dataset=names", "budget.fraction=0.5")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert record["selector"] == "climb"
    assert "by its last loss" in record["reason"]
    ranked = [entry["observed"][-1]["test_loss"] for entry in record["ranking"]]
    assert ranked == sorted(ranked)
    assert 0 < record["cost_fraction"] <= 0.5


def test_select_takes_the_runner(run, tmp_path, jsonl_300):
    done = run(*shown("runner=ngrams"), f"dataset.path={jsonl_300}", "logger=none")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert record["cost_unit"] == "samples"
    assert 0 < record["cost_fraction"] <= 0.5
    losses = {e["model"]: e["observed"][-1]["test_loss"] for e in record["ranking"]}
    assert losses["1-gram"] == max(losses.values()) < np.log(64)  # letters, digits, a few marks


def test_select_takes_the_executor(run, tmp_path):
    done = run(*shown("executor=threads"), "selector=sub_tuning")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert record["settings"]["executor"]["_target_"] == "my_executor.ThreadExecutor"
    assert sum(len(entry["observed"]) for entry in record["ranking"]) > 1


def test_evaluate_takes_the_selector(run, tmp_path):
    quick = ("datasets=[names]", "seeds=[0]", "budget_ratios=[2]", "budget_fractions=[]")
    done = run(*shown("selectors=[climb,ats,random_choice]"), *quick, "n_resamples=10")
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "run" / "scores.csv")
    assert scores["selector"].tolist() == ["climb", "ats", "random_choice"]
    assert np.isfinite(scores["regret"]).all()


def test_evaluate_refuses_a_module_that_was_not_named(run):
    done = run("evaluate", "--config-dir", "conf", "benchmark=zoo", "selectors=[climb]")
    assert done.returncode == 2
    assert "my_selector.Climb" in done.stderr
    assert "allowed_targets=[my_package]" in done.stderr


def test_fit_takes_the_law_and_finds_its_parameters(run, tmp_path):
    sizes = 200 * 2 ** np.arange(9)
    losses = 30.0 * np.log(np.e + sizes) ** -1.5 + 0.5
    table = pd.DataFrame({"model": "a", "dataset": "toy", "n_samples": sizes, "seed": 0})
    table.assign(test_loss=losses).to_csv(tmp_path / "curves.csv", index=False)
    options = ("figures=false", "target_loss=1.5", "forward=false")
    done = run(*shown("law=[logarithmic,all]"), *options)
    assert done.returncode == 0, done.stderr
    fit, *others = pd.read_csv(tmp_path / "run" / "fits.csv").to_dict("records")
    assert [row["law"] for row in (fit, *others)] == [
        *("logarithmic", "rectified", "vanilla", "power")
    ]
    assert fit["scale"] == pytest.approx(30.0, rel=0.02)
    assert fit["beta"] == pytest.approx(1.5, rel=0.02)
    assert fit["irreducible_loss"] == pytest.approx(0.5, rel=0.02)


def test_an_error_in_ones_own_selector_names_its_place(run, tmp_path):
    path = tmp_path / "my_selector.py"
    path.write_text(path.read_text().replace("(seen[-1],", "(seen[0.5],"))
    quick = ("datasets=[names]", "seeds=[0]", "budget_ratios=[2]", "budget_fractions=[]")
    command, *words = shown("selectors=[climb,ats,random_choice]")
    done = run(command, words[-1], *quick, *words[:-1])  # --config-dir between settings
    line = path.read_text()[: path.read_text().index("seen[0.5]")].count("\n") + 1
    assert f"not float (in Climb.rank, my_selector.py:{line})" in done.stderr
    assert "Traceback" not in done.stderr
    assert "in rank\n" in (tmp_path / "run" / "evaluate.log").read_text()
