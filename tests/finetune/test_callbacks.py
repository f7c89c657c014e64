"""The user's callbacks: beside those of a trial, in its key, or refused."""

import json
from functools import partial

import pytest
from pytorch_lightning import callbacks as pl_callbacks

from lensllm.core.trials import Trial, TrialStore
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import TrainingSettings
from lensllm.finetune.callbacks import as_callbacks, callback_settings
from lensllm.prehoc import RiskLaw, StoppingRule
from lensllm.prehoc.callback import ProbeStopping


def stopping(price):
    rule = StoppingRule(RiskLaw(intrinsic=0.0, scale=0.01, decay=1.0), price=price)
    return partial(ProbeStopping, rule=rule)


class Counting(pl_callbacks.Callback):
    """Counts the trials that have begun, and the steps of each."""

    steps: list[int] = []  # noqa: RUF012

    def on_fit_start(self, *_):
        self.steps.append(0)

    def on_train_batch_end(self, *_):
        self.steps[-1] += 1


@pytest.fixture
def runner(model_folders, text_data, make_parts, tmp_path):
    def make(**callbacks):
        return FineTuneRunner(
            [str(model_folders["gpt2"])],
            text_data,
            **make_parts(),
            settings=TrainingSettings(batch_size=8, max_epochs=3, n_evaluations=3),
            store=TrialStore(tmp_path),
            n_samples_full=80,
            sizes=[0, 40],
            make_callbacks=callbacks,
        )

    return make


def trial_of(runner):
    (name,) = runner.sources
    return Trial(name, runner.data.name, 40)


def test_they_act_beside_the_trials_own_and_are_in_its_key(runner, monkeypatch):
    monkeypatch.setattr(Counting, "steps", [])
    plain, counted = runner(), runner(count=Counting)
    result = counted.attempt(trial_of(counted))
    assert Counting.steps == [result.n_steps] == [15]
    trials = {
        name: made.complete(trial_of(made))
        for name, made in {
            "plain": plain,
            "counted": counted,
            "cheap": runner(stop=stopping(0.01)),
            "dear": runner(stop=stopping(1.0)),
            "watched": runner(rate=pl_callbacks.LearningRateMonitor),
        }.items()
    }
    assert "callbacks" not in trials["plain"].settings
    assert trials["watched"].key == trials["plain"].key
    keys = [trials[name].key for name in ("plain", "counted", "cheap", "dear")]
    assert len(set(keys)) == 4
    settings = trials["dear"].settings["callbacks"]
    assert json.loads(json.dumps(settings)) == settings
    assert settings[0]["rule"]["price"] == 1.0
    assert settings[0]["rule"]["law"]["scale"] == 0.01


def test_the_stopping_rule_ends_a_run_of_every_trial_anew(runner):
    made = runner(stop=stopping(1.0))  # worth it up to c = 0.1
    for seed in (0, 1):
        (name,) = made.sources
        result = made.attempt(Trial(name, made.data.name, 40, seed))
        assert result.n_steps == 5
    assert runner().attempt(trial_of(made)).n_steps == 15


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (pl_callbacks.EarlyStopping("val_loss"), r"`_partial_: true` as callbacks\.mine, got <"),
        (dict, r"Lightning callback .* as callbacks\.mine, got <class 'dict'>"),
        (pl_callbacks.ModelCheckpoint, r"no ModelCheckpoint as callbacks\.mine: .*checkpoint_min"),
        (partial(pl_callbacks.Timer, "00:00:01:00"), r"no Timer as callbacks\.mine: .*max_steps"),
        (partial(Counting, object()), r"by name, got \(<object"),
        (partial(Counting, x=object()), r"as callbacks\.x, got an object of type object"),
    ],
    ids=["made already", "no callback", "checkpoints", "timer", "by position", "an object"],
)
def test_others_are_refused(make, pattern):
    with pytest.raises(ValueError, match=pattern):
        as_callbacks({"mine": make})


def test_none_have_no_settings():
    assert as_callbacks(None) == as_callbacks({}) == ()
    assert callback_settings(()) == []
