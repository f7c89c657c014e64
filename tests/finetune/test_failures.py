"""Failures as data: memory that runs out, a Hub that does not answer, and their codes."""

import errno
import logging
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import errors

from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import ModelSource, TrainingSettings, failures, run_trial
from lensllm.finetune.best_weights import BestWeights
from lensllm.finetune.failures import code_of, with_retries
from lensllm.finetune.module import LanguageModelModule

SETTINGS = TrainingSettings(batch_size=8, max_epochs=2, patience=9, n_evaluations=2)


def refusal(status):
    response = SimpleNamespace(headers={}, request=None, status_code=status)
    return errors.HfHubHTTPError("no", response=response)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("x"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out_of_memory"),
        (caused(ValueError("no weights"), refusal(503)), "hub_error"),
        (caused(OSError("x"), errors.LocalEntryNotFoundError("x")), "hub_error"),
        (caused(ValueError("x"), OSError(errno.ENOSPC, "full")), "disk_full"),
        (ValueError("no tokenizer"), "bad_model"),
        (RuntimeError("shapes"), "error"),
    ],
)
def test_errors_have_codes_by_their_causes(error, code):
    assert code_of(error) == code


@pytest.fixture
def waits(monkeypatch):
    waited = []
    monkeypatch.setattr(failures.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("error", [refusal(503), ConnectionError("reset"), TimeoutError()])
def test_what_may_pass_is_tried_again_and_then_given_up(waits, error):
    tried = []

    def load():
        tried.append(1)
        raise caused(OSError("x"), error)

    with pytest.raises(OSError, match="x"):
        with_retries(load, "m")
    assert (len(tried), waits) == (3, [1.0, 4.0])


def test_the_second_try_may_do(waits):
    answers = iter([refusal(429), "model"])

    def load():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(load, "m") == "model"
    assert waits == [1.0]


@pytest.mark.parametrize(
    "error", [refusal(404), errors.OfflineModeIsEnabled("offline"), ValueError("no weights")]
)
def test_what_will_not_pass_is_not_tried_again(waits, error):
    def load():
        raise error

    with pytest.raises(type(error)):
        with_retries(load, "m")
    assert waits == []


@pytest.fixture
def scarce(monkeypatch):
    """Let memory run out beyond so many examples at once, in training or in evaluations."""

    def limit(most, stage="training"):
        name = "training_step" if stage == "training" else "validation_step"
        plain = getattr(LanguageModelModule, name)

        def step(self, batch, *arguments):
            if len(batch["input_ids"]) > most:
                raise torch.OutOfMemoryError("no room")
            return plain(self, batch, *arguments)

        monkeypatch.setattr(LanguageModelModule, name, step)

    return limit


@pytest.fixture
def run(model_folders, text_data, make_parts):
    def run(settings=SETTINGS, **options):
        source = ModelSource(str(model_folders["gpt2"]))
        trial = Trial(source.name, "toy", 48)
        return run_trial(trial, source, text_data, settings, **make_parts(), **options)

    return run


@pytest.mark.parametrize(
    ("stage", "setting", "first"),
    [("training", "micro_batch_size", 8), ("evaluation", "evaluation_batch_size", 64)],
)
def test_a_trial_goes_on_with_fewer_examples_at_once_to_the_same_result(
    run, scarce, caplog, tmp_path, stage, setting, first
):
    whole = run()
    scarce(3, stage)
    # Checkpoints count the batches of the attempt before, which were larger.
    checkpoint = tmp_path / "trial.ckpt"
    with caplog.at_level(logging.WARNING):
        result = run(checkpoint=checkpoint, checkpoint_seconds=0.0)
    assert result.test_loss == pytest.approx(whole.test_loss, rel=1e-5)
    assert (result.n_steps, result.flops) == (whole.n_steps, whole.flops)
    assert result.data[setting] <= 3
    assert f"Out of memory with {first} examples of tiny-gpt2 at once: halved" in caplog.text


def test_a_trial_without_room_for_one_example_is_a_failure_with_its_code(
    scarce, model_folders, text_data, make_parts, tmp_path
):
    scarce(0)
    store = TrialStore(tmp_path)
    runner = FineTuneRunner(
        [str(model_folders["gpt2"])], text_data, settings=SETTINGS, store=store, **make_parts()
    )
    result = runner.run(Trial("tiny-gpt2", "toy", 24))
    assert (result.status, result.error_code) == ("failed", "out_of_memory")
    assert "with one example at once, got: OutOfMemoryError: no room" in result.reason


def test_a_resumed_trial_keeps_its_micro_batches(run, scarce, tmp_path, monkeypatch):
    """Its place in the epoch's order is counted in them."""

    class KilledError(BaseException):
        pass

    class Killer(BestWeights):
        def on_train_batch_end(self, trainer, *_):
            if trainer.fit_loop.total_batch_idx == 7:
                raise KilledError

    path = tmp_path / "trial.ckpt"
    options = {"checkpoint": path, "checkpoint_seconds": 0.0}
    whole = run()
    scarce(4)
    with monkeypatch.context() as patch:
        patch.setattr("lensllm.finetune.trial.BestWeights", Killer)
        with pytest.raises(KilledError):
            run(**options)
    assert path.is_file()
    result = run(**options)
    assert result.data["micro_batch_size"] == 4
    assert result.test_loss == pytest.approx(whole.test_loss, rel=1e-5)


def test_codes_of_failures_are_no_part_of_stored_trials():
    failed = TrialResult.failure(Trial("a", "b", 1), "why", error_code="hub_error")
    assert failed.error_code == "hub_error"
    stored = TrialResult(Trial("a", "b", 1), "completed", 1.0).to_json()
    stored.pop("error_code")
    stored.pop("digest")
    assert TrialResult.from_json({**stored, "format": 1}).error_code == ""
