"""The entry points, run as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lensllm.laws import RectifiedLaw

CHECKOUT = Path(__file__).resolve().parents[2]


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, f"scripts/{script}.py", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture
def curves_csv(tmp_path):
    sizes = 200 * 2 ** np.arange(8)
    losses = RectifiedLaw()(sizes, [60.0, 0.5, 30.0, 1.0])
    path = tmp_path / "toy.csv"
    path.write_text(
        "model," + ",".join(map(str, sizes)) + "\ngpt2," + ",".join(map(str, losses)) + "\n"
    )
    return path


def test_fit_laws(curves_csv, tmp_path):
    out = tmp_path / "out"
    done = run("fit_laws", f"curves={curves_csv}", "target_loss=1.5", f"hydra.run.dir={out}")
    assert done.returncode == 0, done.stderr
    row = pd.read_csv(out / "fits.csv").iloc[0]
    assert row["beta"] == pytest.approx(0.5, rel=1e-6)
    assert row["n_samples_for_target_fit"] == pytest.approx(8100.0, rel=1e-5)
    assert (out / "figures" / "toy.png").is_file()
    assert "rectified" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curves=/nowhere.csv"], "found nothing at /nowhere.csv"),
        (["max_n_samples=800"], "got 3 in 'gpt2' on 'toy'"),
        (["objective=mean"], "got 'mean'"),
        (["+typo=1"], "typo"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(curves_csv, tmp_path, arguments, message):
    done = run("fit_laws", f"curves={curves_csv}", f"hydra.run.dir={tmp_path / 'out'}", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_bench_fitting():
    done = run("bench_fitting", "--rounds", "1", "--batch", "64", "--single", "1", "--starts", "4")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ratio ")]
    assert len(lines) == 2
    for line in lines:
        match = re.fullmatch(r"ratio (fit_laws_\w+) ([\d.]+) \[([\d.]+) ([\d.]+)\]", line)
        assert match
        assert float(match[2]) > 1.0
