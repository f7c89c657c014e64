"""Trials as jobs of a real Slurm, with one node on this machine."""

import os
import re
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from slurm_here import lacks, slurm_here

from lensllm.core.trials import Trial
from lensllm.execution import slurm

# What happens to the jobs of each model; the second job of a trial ends well, but for `hungry`.
ENDINGS = """
import os, signal, subprocess, time
from dataclasses import dataclass
from pathlib import Path
from lensllm.core.trials import TrialResult
from lensllm.system.interrupts import is_ending, leave_if_ended, saved_first

@dataclass
class Endings:
    folder: Path

    def saved_at(self, trial):
        return None

    def run(self, trial):
        job = os.environ["SLURM_JOB_ID"]
        with open(self.folder / trial.model, "a+") as ran:
            ran.write(job + " ")
            ran.seek(0)
            is_first = ran.read().count(" ") == 1
        if is_first and trial.model == "cancelled":
            subprocess.run(["scancel", job])
        elif is_first and trial.model == "requeued":
            subprocess.run(["scontrol", "requeue", job])
        elif is_first and trial.model == "late":
            subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now"])
        elif is_first and trial.model == "warned":  # as before a time limit or a preemption
            os.kill(os.getpid(), signal.SIGUSR2)
        elif is_first and trial.model == "saving":  # told again, in the middle of a long step
            told = f"scancel -s USR2 {job}; sleep 1; scancel {job}"
            subprocess.Popen(["sh", "-c", told])
            with saved_first():
                until = time.monotonic() + 3.0
                while time.monotonic() < until or not is_ending():
                    time.sleep(0.01)
                (self.folder / "saved").touch()
                leave_if_ended()
        elif trial.model == "hungry":
            held = bytearray(2**30)
            held[::4096] = b"1" * len(held[::4096])
        else:
            return TrialResult(trial, "completed", test_loss=float(trial.n_samples))
        time.sleep(100.0)
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(lacks()), reason=lacks())
def test_jobs_that_slurm_ends_are_submitted_again_and_a_requeued_one_is_waited_for(
    tmp_path, monkeypatch, caplog, run_all
):
    pytest.importorskip("submitit")
    (tmp_path / "slurm_endings.py").write_text(ENDINGS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    monkeypatch.setattr(slurm, "QUEUE_SECONDS", 1.0)
    monkeypatch.setattr(slurm, "SHARED_FOLDER_SECONDS", 1.0)
    from slurm_endings import Endings

    runner = Endings(tmp_path / "ran")
    runner.folder.mkdir()
    names = ("late", "requeued", "cancelled", "warned", "saving", "hungry", "plain")
    asked = [Trial(name, "toy", 10 * (i + 1)) for i, name in enumerate(names)]
    parameters = {"timeout_min": 1, "cpus_per_task": 1, "mem_gb": 0.4, "slurm_signal_delay_s": 5}
    # Its sockets are in this folder, and the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_here(Path(folder) / "here"):
        executor = slurm.SlurmExecutor(str(tmp_path / "jobs"), parameters=parameters)
        with closing(executor):
            results = run_all(executor, runner, asked)
    jobs = {name: (runner.folder / name).read_text().split() for name in names}
    statuses = dict(zip(names, (result.status for result in results), strict=True))
    assert statuses == {name: "failed" if name == "hungry" else "completed" for name in names}
    assert jobs["requeued"][0] == jobs["requeued"][1]
    assert len(jobs["requeued"]) == 2
    assert {name: len(set(jobs[name])) for name in names if name != "requeued"} == {
        "late": 2,
        "cancelled": 2,
        "warned": 2,
        "saving": 2,
        "hungry": 2,
        "plain": 1,
    }
    assert (runner.folder / "saved").exists()
    for name, state in (("cancelled", "CANCELLED"), ("late", "TIMEOUT")):
        words = rf"{name}, D = \d+, to finish, its job {jobs[name][0]} ended .*state {state}"
        assert re.search(words, caplog.text)
    assert "in 2 of 2 attempts" in results[names.index("hungry")].reason


def test_a_job_that_slurm_could_not_launch_is_released_and_at_last_ended(tmp_path, monkeypatch):
    commands, ended = [], []

    def run(command, **_):
        commands.append(command)
        return SimpleNamespace(returncode=0, stdout="7 launch failed requeued held\n8 Resources\n")

    monkeypatch.setattr(slurm.subprocess, "run", run)
    monkeypatch.setattr(slurm, "QUEUE_SECONDS", 0.0)
    executor = slurm.SlurmExecutor(str(tmp_path))
    for name in ("7", "8"):
        job = SimpleNamespace(job_id=name, cancel=lambda check, name=name: ended.append(name))
        executor._jobs[Trial(name, "toy", 10)] = slurm._Job(job)
    for _ in range(slurm.MAX_RELEASES + 1):
        executor._look_at_queue()
    released = [command for command in commands if command[0] == "scontrol"]
    assert released == [["scontrol", "release", "7"]] * slurm.MAX_RELEASES
    assert ended == ["7"]
