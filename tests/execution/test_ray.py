"""Trials as Ray tasks: one real start of Ray on the loopback address."""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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

    def saved_at(self, trial):
        return None

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
    tmp_path, monkeypatch, caplog, run_all, request
):
    (tmp_path / "fragile_ray.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    from fragile_ray import Fragile

    runner = Fragile(tmp_path / "ran")
    runner.folder.mkdir()
    asked = [Trial(m, "toy", 10 * (i + 1)) for i, m in enumerate(("a", "deadly", "hopeless", "b"))]
    temporary = tempfile.mkdtemp(prefix="r")  # short: Ray's sockets lie below it
    request.addfinalizer(lambda: shutil.rmtree(temporary, ignore_errors=True))
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    with closing(RayExecutor(n_workers=2)) as executor:
        results = run_all(executor, runner, asked)
        (folder,) = Path(temporary).glob("lensllm-ray-*")
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


# Trials whose steps take a while, and are saved after one at a preemption.
SAVING = """
from lensllm.system.interrupts import ended_by_signals, guard_process
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from lensllm.core.trials import Trial
from lensllm.execution.ray import RayExecutor
from lensllm.system.interrupts import is_ending, leave_if_ended, saved_first

class Steps:
    def run(self, trial):
        with saved_first():
            while True:
                Path(f"{trial.model}.began").touch()
                until = time.monotonic() + 3.0
                while time.monotonic() < until: time.sleep(0.01)
                if is_ending():
                    Path(f"{trial.model}.saved").touch()
                    leave_if_ended()

def main():
    guard_process()
    with ended_by_signals(), closing(RayExecutor(n_workers=2)) as executor:
        runner = Steps()
        for name in "ab":
            executor.start(runner, Trial(name, "toy", 10))
        executor.next()
"""


@pytest.mark.slow
def test_at_a_preemption_trials_are_saved_before_ray_ends(tmp_path):
    (tmp_path / "saving_ray.py").write_text(SAVING)
    process = start(tmp_path, "from saving_ray import main; main()")
    until = time.monotonic() + 120.0
    while len(list(tmp_path.glob("*.began"))) < 2 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert {path.name for path in tmp_path.glob("*.saved")} == {"a.saved", "b.saved"}


# Trials that tell their node, on a cluster whose second node dies and is replaced.
NODES = """
import json, os, secrets, signal, time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from lensllm.core.trials import Trial, TrialResult
from lensllm.execution.ray import SETTINGS, RayExecutor

@dataclass
class Nodes:
    folder: Path

    def saved_at(self, trial):
        return None

    def note(self, name, *words):
        with open(self.folder / name, "a") as notes:
            notes.write(" ".join(words) + "\\n")

    def read(self, name):
        return [line.split() for line in (self.folder / name).read_text().splitlines()]

    def run(self, trial):
        import ray
        node = ray.get_runtime_context().get_node_id()
        self.note("began", trial.model, node)
        time.sleep(1.0 + trial.n_samples % 3)
        self.note("ended", trial.model, node)
        return TrialResult(trial, "completed", test_loss=float(trial.n_samples))

def main(folder, temporary):
    os.environ.update(SETTINGS, RAY_AUTH_TOKEN=secrets.token_hex(32))
    from ray.cluster_utils import Cluster
    head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": temporary}
    cluster = Cluster(True, head_node_args=head)
    second = cluster.add_node(num_cpus=2)
    raylet = second.all_processes["raylet"][0].process.pid
    names = [f"m{i}" for i in range(6)]
    done, runner = {}, Nodes(Path(folder))
    with closing(RayExecutor(cluster.address, n_workers=3)) as executor:
        for i, name in enumerate(names):
            executor.start(runner, Trial(name, "toy", 10 * (i + 1)))
        while len(done) < len(names):
            trial, result = executor.next()
            done[trial.model] = result.status, result.test_loss
            began, ended = ({tuple(line) for line in runner.read(n)} for n in ("began", "ended"))
            cut = [name for name, node in began - ended if node == second.node_id]
            if raylet and cut and (trial.model, second.node_id) in ended:
                os.kill(raylet, signal.SIGKILL)
                cut_there, raylet = cut, None
                third = cluster.add_node(num_cpus=2).node_id
    cluster.shutdown()
    print(json.dumps([done, cut_there, [second.node_id, third], runner.read("began")]))
"""


@pytest.mark.slow
def test_the_trials_of_a_node_that_dies_run_again_on_others_and_no_other_does(tmp_path):
    (tmp_path / "nodes_ray.py").write_text(NODES)
    with tempfile.TemporaryDirectory(prefix="ray-") as short:  # for the paths of sockets
        program = f"from nodes_ray import main; main({str(tmp_path)!r}, {short!r})"
        process = start(tmp_path, program)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    done, cut, (second, third), began = json.loads(out.splitlines()[-1])
    assert done == {f"m{i}": ["completed", 10.0 * (i + 1)] for i in range(6)}
    assert cut
    for name in done:
        nodes = [node for other, node in began if other == name]
        assert len(nodes) == (2 if name in cut else 1)
        assert name not in cut or nodes[1] != second == nodes[0]
    assert third in {node for _, node in began}


def start(folder, program):
    """Start a program that can import what is in a folder, which is its working directory."""
    path = os.pathsep.join([str(folder), os.getcwd(), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


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
