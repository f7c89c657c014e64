"""Executors: the same results wherever trials run, and nothing lost where a process dies."""

import math
import re
from contextlib import closing
from dataclasses import replace

import pytest

from lensllm.core.task import Budget
from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.execution.local import LocalExecutor
from lensllm.execution.pool import PoolExecutor
from lensllm.execution.slurm import SlurmExecutor
from lensllm.finetune import TrainingSettings
from lensllm.selectors import EverySize, run_campaign

SETTINGS = TrainingSettings(batch_size=8, max_epochs=1, n_evaluations=2)
# A runner in a module that other processes can import.
FRAGILE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from lensllm.core.trials import TrialResult

@dataclass
class Fragile:
    folder: Path
    deaths: int = 0
    saves: bool = False  # whether each attempt gets further than the one before

    def saved_at(self, trial):
        return float(len(list(self.folder.glob(trial.model + '-*')))) if self.saves else None

    def run(self, trial):
        ran = self.folder / f"{trial.model}-{len(list(self.folder.glob(trial.model + '-*')))}"
        ran.write_text(str(os.getpid()))
        if trial.model == "wrong":
            raise ValueError("Expected another model, got wrong")
        if trial.model == "deadly" and int(ran.name.split("-")[1]) < self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return TrialResult(trial, "completed", test_loss=float(trial.n_samples))
"""


@pytest.fixture
def make_fragile(tmp_path, monkeypatch):
    (tmp_path / "fragile_runner.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ran").mkdir()

    def make(**options):
        from fragile_runner import Fragile

        return Fragile(tmp_path / "ran", **options)

    return make


def trials(*models):
    return [Trial(model, "toy", 10 * (i + 1)) for i, model in enumerate(models)]


def ran(runner, model):
    return len(list(runner.folder.glob(f"{model}-*")))


def test_a_killed_process_is_replaced_and_its_trial_run_again(make_fragile, caplog, run_all):
    runner, asked = make_fragile(deaths=1), trials("a", "deadly", "b", "c")
    with closing(PoolExecutor(n_workers=2)) as executor:
        results = run_all(executor, runner, asked)
        assert [result.trial for result in results] == asked
        assert [result.test_loss for result in results] == [10.0, 20.0, 30.0, 40.0]
        assert (ran(runner, "a"), ran(runner, "deadly")) == (1, 2)
        assert "process at deadly, D = 20, to finish, it died (signal 9)" in caplog.text

        # What a trial raises comes back as it was, after those that run have ended.
        with pytest.raises(ValueError, match=r"^Expected another model, got wrong$"):
            run_all(executor, runner, trials("wrong", "d"))
        assert [r.test_loss for r in run_all(executor, runner, trials("e"))] == [10.0]


def test_a_trial_that_always_kills_its_process_has_failed_and_the_others_go_on(
    make_fragile, run_all
):
    runner, asked = make_fragile(deaths=99), trials("a", "deadly", "b")
    with closing(PoolExecutor(n_workers=1, retries=1)) as executor:
        results = run_all(executor, runner, asked)
    assert [result.trial for result in results] == asked
    assert [result.status for result in results] == ["completed", "failed", "completed"]
    assert math.isnan(results[1].test_loss)
    assert results[1].reason == (
        "its process died (signal 9) in 2 of 2 attempts; where memory ran out, take fewer "
        "executor.n_workers"
    )
    assert (ran(runner, "deadly"), ran(runner, "b")) == (2, 1)


def test_attempts_that_get_further_are_not_counted(make_fragile, run_all):
    runner = make_fragile(deaths=3, saves=True)
    with closing(PoolExecutor(n_workers=1, retries=1)) as executor:
        (result,) = run_all(executor, runner, trials("deadly"))
    assert (result.status, ran(runner, "deadly")) == ("completed", 4)


@pytest.fixture
def make_runner(model_folders, text_data, make_parts, tmp_path):
    def make(folder):
        return FineTuneRunner(
            ["llama-64x3", str(model_folders["gpt2"])],
            text_data,
            settings=SETTINGS,
            store=TrialStore(tmp_path / folder),
            sizes=[0, 24, 40],
            **make_parts(),
        )

    return make


def comparable(store):
    """Stored results by key, without what differs from run to run."""
    times = {"seconds": 0.0, "compute_seconds": 0.0, "finished_at": ""}
    changing = {**times, "peak_memory_bytes": 0, "versions": {}}
    return {result.trial.key: replace(result, **changing) for result in store.results()}


def campaign(runner, executor):
    with closing(executor):
        return run_campaign(EverySize(), runner, Budget(math.inf), executor=executor)


def test_a_campaign_in_a_pool_is_the_one_in_this_process(make_runner):
    here, there = make_runner("here"), make_runner("there")
    selection, curves = campaign(here, LocalExecutor())
    other, other_curves = campaign(there, PoolExecutor(n_workers=2))
    assert comparable(there.store) == comparable(here.store)
    assert len(comparable(here.store)) == 6
    assert sorted(map(str, other.events)) == sorted(map(str, selection.events))
    same = replace(other, events=selection.events, cost_seconds=selection.cost_seconds)
    assert same == selection
    losses = ["model", "n_samples", "test_loss", "flops"]
    assert other_curves[losses].equals(curves[losses])


def test_jobs_of_submitit_find_the_same(make_runner, tmp_path, run_all):
    pytest.importorskip("submitit")
    parameters = {"timeout_min": 5, "gpus_per_node": 0}
    executor = SlurmExecutor(str(tmp_path / "jobs"), "debug", parameters=parameters)
    runner, alone = make_runner("jobs_store"), make_runner("alone")
    asked = [Trial("llama-64x3", "toy", 24), Trial("tiny-gpt2", "toy", 24)]
    results = run_all(executor, runner, asked)
    assert [r.test_loss for r in results] == [alone.run(trial).test_loss for trial in asked]
    assert comparable(runner.store) == comparable(alone.store)


@pytest.mark.slow
def test_a_job_that_dies_is_submitted_again_and_one_that_raises_is_not(
    make_fragile, tmp_path, run_all
):
    pytest.importorskip("submitit")
    parameters = {"timeout_min": 5, "gpus_per_node": 0}
    executor = SlurmExecutor(str(tmp_path / "jobs"), "local", parameters=parameters)
    runner = make_fragile(deaths=1)
    assert [r.test_loss for r in run_all(executor, runner, trials("deadly"))] == [10.0]
    assert ran(runner, "deadly") == 2
    with pytest.raises(RuntimeError, match=r"of wrong, D = 10.*Expected another model, got wrong"):
        run_all(executor, runner, trials("wrong", "a"))
    assert (ran(runner, "wrong"), ran(runner, "a")) == (1, 1)  # what ran was waited for

    failed, other = run_all(executor, make_fragile(deaths=99), trials("deadly", "b"))
    assert (failed.status, other.status) == ("failed", "completed")
    assert re.match(r"its job \d+ ended without a result .*\.err\) in 2 of 2", failed.reason)


def test_bad_settings_are_refused(tmp_path, monkeypatch):
    for gpus in ([], 0, "0"):
        with pytest.raises(ValueError, match=r"indices of GPUs as executor\.gpus.*null leaves"):
            PoolExecutor(gpus=gpus)
    with pytest.raises(ValueError, match=r"indices >= 0 in executor\.gpus, got \[-1\]"):
        PoolExecutor(gpus=[-1])
    with pytest.raises(ValueError, match=r"executor\.n_workers <= \d+ on \d+ cores, got 1000"):
        PoolExecutor(n_workers=1000)
    with pytest.raises(ValueError, match=r"executor\.n_workers >= 1, got 2\.5"):
        PoolExecutor(n_workers=2.5)
    with pytest.raises(ValueError, match=r"executor\.n_workers >= 1, got 0"):
        PoolExecutor(n_workers=0)
    with pytest.raises(ValueError, match=r"executor\.save_seconds from 0 to 600, got 601"):
        PoolExecutor(save_seconds=601)
    with pytest.raises(ValueError, match=r"executor\.retries >= 0, got -1"):
        PoolExecutor(retries=-1)
    with pytest.raises(ValueError, match="among slurm, local, debug, got 'pbs'"):
        SlurmExecutor(str(tmp_path), cluster="pbs")
    with pytest.raises(ValueError, match=r"executor\.n_workers >= 1, got 0"):
        SlurmExecutor(str(tmp_path), n_workers=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="submitit for executor=slurm, found none: `pip install"):
        SlurmExecutor(str(tmp_path))
