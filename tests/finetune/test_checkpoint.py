"""A trial that is killed and taken up ends with the weights of an unbroken one, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import AdapterConfig, ModelSource, TrainingSettings, run_trial
from lensllm.finetune.checkpoint import Checkpoints, usable_checkpoint
from lensllm.finetune.trial import BestWeights
from lensllm.system.interrupts import ENDINGS

SETTINGS = TrainingSettings(batch_size=8, max_epochs=3, patience=9, n_evaluations=4)


class KilledError(BaseException):
    """What ends a trial here, as a signal would."""


class Killer(BestWeights):
    """Stands in for `BestWeights`: ends the trial at a step, and keeps the last weights."""

    at: int | None = None
    last: dict = {}  # noqa: RUF012

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        Killer.last = {k: v.clone() for k, v in pl_module.model.state_dict().items()}
        if Killer.at == trainer.fit_loop.total_batch_idx:
            raise KilledError


@pytest.fixture
def killer(monkeypatch):
    monkeypatch.setattr("lensllm.finetune.trial.BestWeights", Killer)
    monkeypatch.setattr(Killer, "at", None)
    return Killer


@pytest.fixture(scope="module")
def dropout_model(tmp_path_factory, tokenizer):
    config = AutoConfig.for_model(
        "gpt2", vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128,
        resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.3, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dropout") / "dropout-gpt2"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def outcome(result):
    return result.test_loss, result.validation_loss, result.trace, result.flops, result.n_steps


# 80 pairs in batches of 8: ten steps an epoch, an evaluation after steps 8, 16, 24 and 30.
@pytest.mark.parametrize(
    ("at", "finetune", "micro"),
    [
        (2, "full", None),
        (12, "full", None),
        (25, "lora", None),
        (31, "full", 3),
        (25, "qlora", None),
    ],
)
def test_a_killed_trial_ends_as_an_unbroken_one(
    killer, dropout_model, text_data, make_parts, tmp_path, monkeypatch, at, finetune, micro
):
    if finetune == "qlora":
        pytest.importorskip("bitsandbytes")
    method = AdapterConfig(finetune, dropout=0.2)
    source = ModelSource(str(dropout_model), finetune=method)
    settings = replace(SETTINGS, micro_batch_size=micro)
    trial = Trial(source.name, "toy", 80)
    path = tmp_path / "trial.ckpt"

    def run(checkpoint):
        return run_trial(
            trial, source, text_data, settings, **make_parts(),
            checkpoint=checkpoint, checkpoint_seconds=0.0,
        )  # fmt: skip

    whole, weights = run(None), killer.last
    monkeypatch.setattr(killer, "at", at)
    with pytest.raises(KilledError):
        run(path)
    state = torch.load(path, weights_only=True)
    assert 0 < state["global_step"] <= at
    assert all("lora_" in name or finetune == "full" for name in state["state_dict"])
    monkeypatch.setattr(killer, "at", None)
    torch.manual_seed(99)
    resumed = run(path)
    assert outcome(resumed) == outcome(whole)
    assert all(torch.equal(killer.last[name], value) for name, value in weights.items())
    assert resumed.seconds > 0


def test_resuming_leaves_out_what_was_done(killer, dropout_model, text_data, make_parts, tmp_path):
    """Without the checkpoint's state the rest of the trial would be another one."""
    source = ModelSource(str(dropout_model))
    trial = Trial(source.name, "toy", 80)
    options = {"checkpoint": tmp_path / "a.ckpt", "checkpoint_seconds": 0.0}
    killer.at = 12
    with pytest.raises(KilledError):
        run_trial(trial, source, text_data, SETTINGS, **make_parts(), **options)
    killer.at = 13
    state = torch.load(options["checkpoint"], weights_only=True)
    state["callbacks"]["Checkpoints"]["generators"]["torch"] = torch.get_rng_state()
    torch.save(state, options["checkpoint"])
    with pytest.raises(KilledError):
        run_trial(trial, source, text_data, SETTINGS, **make_parts(), **options)
    other = {k: v.clone() for k, v in killer.last.items()}
    with pytest.raises(KilledError):
        run_trial(trial, source, text_data, SETTINGS, **make_parts())
    assert any(not torch.equal(killer.last[k], v) for k, v in other.items())


def put_half(path):
    path.write_bytes(b"half of it")


def put_code(path):
    torch.save({"code": partial(print, "run")}, path)  # more than weights


def put_foreign(path):
    torch.save({"model": torch.zeros(2), "step": 3}, path)


def put_folder(path):
    path.mkdir()
    (path / "inside").write_text("kept")


def put_other_trial(path):
    parts = ("loops", "optimizer_states", "lr_schedulers", "counted")
    torch.save(
        {"state_dict": {}, "callbacks": {"Checkpoints": {"key": "x"}}, **dict.fromkeys(parts)}, path
    )


@pytest.mark.parametrize("put", [put_half, put_code, put_foreign, put_folder, put_other_trial])
def test_what_is_no_checkpoint_of_the_trial_is_set_aside(
    dropout_model, text_data, make_parts, tmp_path, caplog, put
):
    path = tmp_path / "a.ckpt"
    assert usable_checkpoint(path, "k") is None
    put(path)
    source = ModelSource(str(dropout_model))
    result = run_trial(
        Trial(source.name, "toy", 16), source, text_data, SETTINGS, **make_parts(), checkpoint=path
    )
    assert result.status == "completed"
    assert "it starts anew" in caplog.text
    assert (tmp_path / "a.ckpt.set-aside").exists()
    assert not path.exists()


def test_a_trial_takes_no_checkpoint_that_lies_about(
    dropout_model, text_data, make_parts, tmp_path, monkeypatch
):
    """Lightning goes on from `hpc_ckpt_*.ckpt` of the working folder; a trial does not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "x")):
        monkeypatch.setenv(name, value)
    source = ModelSource(str(dropout_model))
    trial = Trial(source.name, "toy", 16)
    plain = run_trial(trial, source, text_data, SETTINGS, **make_parts())
    assert plain.status == "completed"
    assert [path.name for path in tmp_path.iterdir()] == ["hpc_ckpt_1.ckpt"]


def test_a_full_disk_costs_the_checkpoint_and_not_the_trial(
    dropout_model, text_data, make_parts, tmp_path, caplog, monkeypatch
):
    import pytorch_lightning as pl

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    source = ModelSource(str(dropout_model))
    result = run_trial(
        Trial(source.name, "toy", 32), source, text_data, SETTINGS, **make_parts(),
        checkpoint=tmp_path / "a.ckpt", checkpoint_seconds=0.0,
    )  # fmt: skip
    assert result.status == "completed"
    assert caplog.text.count("No space left on device") == 1
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_a_finished_trial_takes_the_place_of_its_checkpoint(
    dropout_model, text_data, make_parts, tmp_path, monkeypatch
):
    store = TrialStore(tmp_path / "trials")
    runner = FineTuneRunner(
        [str(dropout_model)], text_data, settings=SETTINGS, store=store, checkpoint_minutes=0,
        **make_parts(),
    )  # fmt: skip
    unfinished, sync = store.folder / ".unfinished", os.fsync

    def full(handle):
        if list(unfinished.glob("*.ckpt")):
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("lensllm.system.atomic.os.fsync", full)
    result = runner.run(Trial("dropout-gpt2", "toy", 32))
    assert list(store.results()) == [result]
    assert list(unfinished.iterdir()) == []


def test_stored_trials_leave_no_checkpoint(dropout_model, text_data, make_parts, tmp_path):
    store = TrialStore(tmp_path / "trials")
    runner = FineTuneRunner(
        [str(dropout_model)], text_data, settings=SETTINGS, store=store, checkpoint_minutes=0,
        **make_parts(),
    )  # fmt: skip
    result = runner.run(Trial("dropout-gpt2", "toy", 32))
    assert list((store.folder / ".unfinished").iterdir()) == []
    assert list(store.results()) == [result]


def test_checkpoints_come_as_often_as_asked(monkeypatch, tmp_path):
    written = []
    now = [0.0]
    monkeypatch.setattr("lensllm.finetune.checkpoint.time.monotonic", lambda: now[0])
    monkeypatch.setattr("lensllm.finetune.checkpoint._is_quiet", lambda *_: True)
    keeper = Checkpoints(tmp_path / "a.ckpt", 10.0)
    monkeypatch.setattr(keeper, "_write", lambda trainer: written.append(now[0]))

    class OneProcess:
        world_size = 1

    keeper.on_fit_start(OneProcess(), None)
    for second in range(36):
        now[0] = float(second)
        keeper.on_train_batch_end(OneProcess(), None, None, None, second)
    assert written == [10.0, 20.0, 30.0]


def run_long(folder, pairs, store, minutes=0):
    """A trial that writes a checkpoint at every step; in this process, or in one to be killed."""
    import pytorch_lightning as pl

    from lensllm.data.pairs import make_text_data
    from lensllm.finetune import warmup_schedule

    runner = FineTuneRunner(
        [str(folder)],
        make_text_data("toy", pairs[:80], pairs[80:95], pairs[95:], 48, 24),
        partial(torch.optim.AdamW, lr=3e-3),
        partial(warmup_schedule, name="linear"),
        partial(pl.Trainer, accelerator="cpu", devices=1, enable_progress_bar=False),
        TrainingSettings(batch_size=8, max_epochs=12, patience=99, n_evaluations=4),
        TrialStore(store),
        checkpoint_minutes=minutes,
    )
    return runner.run(Trial("dropout-gpt2", "toy", 80))


SCRIPT = """
import json, runpy, sys
here, folder, pairs, store = sys.argv[1:]
pairs = [tuple(pair) for pair in json.load(open(pairs))]
runpy.run_path(here)["run_long"](folder, pairs, store)
"""


@pytest.mark.slow
def test_a_signal_that_cannot_be_caught_loses_no_step(dropout_model, pairs, tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    arguments = [__file__, dropout_model, tmp_path / "pairs.json", tmp_path / "killed"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "killed" / ".unfinished"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*.ckpt")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    (left,) = checkpoints.glob("*.ckpt")
    before = torch.load(left, weights_only=True)["global_step"]
    assert 0 < before < 120

    resumed, whole = (
        run_long(dropout_model, pairs, tmp_path / name) for name in ("killed", "whole")
    )
    assert resumed.trial == whole.trial
    assert outcome(resumed) == outcome(whole)
    assert list(checkpoints.glob("*.ckpt")) == []


PREEMPTED = """
import json, runpy, sys
from lensllm.finetune import trial
from lensllm.system.interrupts import ended_by_signals

class Telling(trial.BestWeights):
    def on_train_batch_end(self, *_):
        print("a step", flush=True)

trial.BestWeights = Telling
here, folder, pairs, store = sys.argv[1:]
pairs = [tuple(pair) for pair in json.load(open(pairs))]
with ended_by_signals():
    runpy.run_path(here)["run_long"](folder, pairs, store, minutes=10)
"""


@pytest.mark.slow
def test_a_preempted_trial_is_saved_at_once_and_goes_on(dropout_model, pairs, tmp_path):
    """No checkpoint is due for ten minutes; SIGUSR1 does the same (see `SignalGuard`)."""
    number = signal.SIGTERM
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    arguments = [__file__, dropout_model, tmp_path / "pairs.json", tmp_path / "preempted"]
    process = subprocess.Popen(
        [sys.executable, "-c", PREEMPTED, *map(str, arguments)],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "a step\n"
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert f"{ENDINGS[number]}; finished trials, if any, are in the store.\n" in error
    (left,) = (tmp_path / "preempted" / ".unfinished").glob("*.ckpt")
    assert 0 < torch.load(left, weights_only=True)["global_step"] < 120
    resumed, whole = (
        run_long(dropout_model, pairs, tmp_path / name) for name in ("preempted", "whole")
    )
    assert outcome(resumed) == outcome(whole)
