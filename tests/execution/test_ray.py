"""Trials as Ray tasks: one real start of Ray on the loopback address."""

import importlib.util
import math
import os
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from lensllm.core.trials import Trial
from lensllm.execution.ray import RayExecutor

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='no Ray here: pip install "lensllm[ray]"'
)
# A runner in a module that other processes can import.
FRAGILE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from lensllm.core.trials import TrialResult

@dataclass
class Fragile:
    folder: Path

    def run(self, trial):
        ran = self.folder / f"{trial.model}-{len(list(self.folder.glob(trial.model + '-*')))}"
        ran.touch()
        if trial.model == "wrong":
            raise ValueError("Expected another model, got wrong")
        if trial.model == "hopeless" or ran.name == "deadly-0":
            os.kill(os.getpid(), signal.SIGKILL)
        return TrialResult(trial, "completed", test_loss=float(trial.n_samples))
"""


def processes_of(folder):
    """Numbers of Ray's processes that know this folder."""
    return subprocess.run(["pgrep", "-f", folder], capture_output=True, text=True).stdout.split()


@pytest.mark.slow
def test_a_dead_process_is_a_retry_then_a_result_and_nothing_is_left(
    tmp_path, monkeypatch, caplog, run_all
):
    (tmp_path / "fragile_ray.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    from fragile_ray import Fragile

    runner = Fragile(tmp_path / "ran")
    runner.folder.mkdir()
    asked = [Trial(m, "toy", 10 * (i + 1)) for i, m in enumerate(("a", "deadly", "hopeless", "b"))]
    before = set(Path(tempfile.gettempdir()).iterdir())
    with closing(RayExecutor(n_workers=2)) as executor:
        results = run_all(executor, runner, asked)
        (folder,) = (
            p for p in set(Path(tempfile.gettempdir()).iterdir()) - before if "ray" in p.name
        )
        assert processes_of(folder.name)
        statuses = ["completed", "completed", "failed", "completed"]
        assert [result.status for result in results] == statuses
        assert [result.test_loss for result in results if result.status == "completed"] == [
            10,
            20,
            40,
        ]
        assert results[2].reason.startswith(
            "its process died (WorkerCrashedError) in 2 of 2 attempts"
        )
        assert "process at deadly, D = 20, to finish, it died (WorkerCrashedError)" in caplog.text
        assert len(list(runner.folder.glob("a-*"))) == 1

        with pytest.raises(ValueError, match=r"^Expected another model, got wrong$"):
            run_all(executor, runner, [Trial("wrong", "toy", 10), Trial("c", "toy", 20)])
        (last,) = run_all(executor, runner, [Trial("d", "toy", 70)])
        assert (last.status, last.test_loss) == ("completed", 70.0)
    assert not folder.exists()
    assert not processes_of(folder.name)


def test_bad_resources_are_refused(monkeypatch):
    for name, value in (("n_workers", 0), ("retries", -1), ("num_gpus", -1)):
        with pytest.raises(ValueError, match=rf"executor\.{name} >= [01], got {value}"):
            RayExecutor(**{name: value})
    for name, value in (("num_cpus", 0), ("memory_gb", math.inf)):
        with pytest.raises(ValueError, match=rf"executor\.{name} > 0, got {value}"):
            RayExecutor(**{name: value})
    assert (RayExecutor(n_workers=3).n_here, RayExecutor(address="auto").n_here) == (3, 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match='ray for executor=ray, found none: `pip install "lensllm'):
        RayExecutor()
