import pytest

from lensllm.core.trials import Trial, TrialStore
from lensllm.execution import finetune
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import TrainingSettings


@pytest.fixture
def runner(model_folders, text_data, make_parts, tmp_path):
    settings = TrainingSettings(batch_size=8, max_epochs=2, n_evaluations=2)
    options = {"sizes": [8, 16], "trial_time_limit": "0.001s", "checkpoint_minutes": None}
    return FineTuneRunner(
        [str(model_folders["gpt2"])],
        text_data,
        settings=settings,
        store=TrialStore(tmp_path),
        **make_parts(),
        **options,
    )


def test_a_trial_is_ended_at_its_limit_and_only_a_longer_one_runs_it_again(runner, monkeypatch):
    trial = Trial("tiny-gpt2", "toy", 16)
    found = runner.run(trial)
    assert (found.status, found.n_steps) == ("timed_out", 1)
    assert found.flops > 0
    assert found.seconds > found.compute_seconds > 0
    assert runner.store.get(found.trial).status == "timed_out"
    monkeypatch.setattr(finetune, "run_trial", None)  # which would fail where it ran again
    assert runner.run(trial).seconds == found.seconds
    assert [result.trial for result in runner.known()] == [found.trial]
    monkeypatch.undo()
    runner.trial_time_limit = found.seconds + 600.0
    assert runner.known() == []
    again = runner.run(trial)
    assert again.status == "completed"
    runner.trial_time_limit = 0.001
    assert runner.run(trial).test_loss == again.test_loss  # what has completed stays


def test_a_deadline_ends_trials_and_full_fine_tuning_has_no_limit(runner, tmp_path):
    runner.trial_time_limit, runner.deadline = None, 0.0
    assert runner.run(Trial("tiny-gpt2", "toy", 8)).status == "timed_out"
    kept = runner.keep(Trial("tiny-gpt2", "toy", 16), tmp_path / "model")
    assert kept.status == "completed"
