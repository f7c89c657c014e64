import json
import math
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from lensllm.core.example_losses import ExampleLosses
from lensllm.core.task import NoCandidateError, size_ladder
from lensllm.core.trials import Trial, TrialStore
from lensllm.data.pairs import make_text_data
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import ModelSource, TrainingSettings, warmup_schedule

SETTINGS = TrainingSettings(batch_size=8, max_epochs=1, patience=9, n_evaluations=2)


@pytest.fixture
def make_runner(model_folders, text_data, make_parts, tmp_path):
    def make(names=("gpt2", "opt"), data=text_data, lr=3e-3, settings=SETTINGS, **options):
        parts = {**make_parts(lr=lr), "settings": settings, "store": TrialStore(tmp_path / "store")}
        parts["sources"] = [str(model_folders.get(name, name)) for name in names]
        return FineTuneRunner(data=data, **{**parts, **options})

    return make


@pytest.mark.parametrize(
    ("full", "sizes"),
    [
        (25600, (0, 200, 400, 800, 1600, 3200, 6400, 12800)),
        (25599, (0, 200, 400, 800, 1600, 3200, 6400)),
        (1600, (0, 100, 200, 400, 800)),
        (210, (0, 12, 25, 50, 100)),
        (24, (0, 12)),
        (10, (0,)),
    ],
)
def test_ladder_of_sizes(full, sizes):
    assert size_ladder(full) == sizes


def test_a_campaign_whose_targets_have_no_token_is_refused(make_runner, text_data):
    runner = make_runner(data=replace(text_data, train=[(a, "") for a, _ in text_data.train]))
    words = r"train targets .* for tiny-gpt2 .*targets are empty.*tiny-opt: Expected train"
    with pytest.raises(NoCandidateError, match=words):
        runner.task()


def test_a_finished_trial_is_answered_from_the_store(make_runner, monkeypatch):
    runner = make_runner()
    trial = Trial("tiny-gpt2", "toy", 16)
    first = runner.run(trial)
    assert first.trial == runner.complete(trial)
    monkeypatch.setattr("lensllm.execution.finetune.run_trial", lambda *_, **__: pytest.fail("ran"))
    assert make_runner().run(trial) == first
    assert len(list(runner.store.results())) == 1


def test_a_diverged_trial_is_stored_and_not_tried_again(make_runner, monkeypatch):
    runner = make_runner(make_optimizer=partial(torch.optim.SGD, lr=1e35))
    trial = Trial("tiny-gpt2", "toy", 64)
    assert runner.run(trial).status == "diverged"
    monkeypatch.setattr("lensllm.execution.finetune.run_trial", lambda *_, **__: pytest.fail("ran"))
    result = runner.run(trial)
    assert result.status == "diverged"
    assert math.isnan(result.test_loss)


def test_everything_that_decides_the_outcome_is_in_the_key(make_runner, pairs, model_folders):
    trial = Trial("tiny-gpt2", "toy", 16)

    def key(trial=trial, **options):
        return make_runner(**options).complete(trial).key

    other_data = make_text_data("toy", pairs[:79], pairs[79:95], pairs[95:], 48, 24)
    shorter = make_text_data("toy", pairs[:80], pairs[80:95], pairs[95:], 48, 20)
    changed = [
        key(trial=replace(trial, seed=1)),
        key(trial=replace(trial, n_samples=24)),
        key(data=other_data),
        key(data=shorter),
        key(lr=1e-3),
        key(make_optimizer=partial(torch.optim.SGD, lr=3e-3, weight_decay=0.01)),
        key(make_scheduler=partial(warmup_schedule, name="cosine")),
        key(settings=replace(SETTINGS, batch_size=4)),
        key(settings=replace(SETTINGS, max_epochs=2)),
        key(settings=replace(SETTINGS, patience=1)),
        key(settings=replace(SETTINGS, n_evaluations=1)),
        key(settings=replace(SETTINGS, prompt="{input}: ")),
        key(settings=replace(SETTINGS, evaluation_batch_size=3)),
        key(settings=replace(SETTINGS, micro_batch_size=4)),
        key(settings=replace(SETTINGS, compile=True)),
    ]
    assert len({key(), *changed}) == len(changed) + 1
    assert key(settings=replace(SETTINGS, gradient_checkpointing=True)) == key()
    assert key(names=("opt", "gpt2"), seed=7, sizes=[0, 16]) == key()


def test_the_key_follows_the_weights(make_runner, model_folders, tmp_path):
    copy = shutil.copytree(model_folders["gpt2"], tmp_path / "tiny-gpt2")
    trial = Trial("tiny-gpt2", "toy", 16)
    before = make_runner().complete(trial).key
    assert make_runner(names=[copy]).complete(trial).key == before
    model = ModelSource(str(copy)).load_model()
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1
    model.save_pretrained(copy)
    assert make_runner(names=[copy]).complete(trial).key != before


def test_zero_samples_do_not_depend_on_how_one_would_train(make_runner):
    trial = Trial("tiny-gpt2", "toy", 0)
    key = make_runner().complete(trial).key
    assert make_runner(lr=1e-5).complete(trial).key == key
    assert make_runner(settings=replace(SETTINGS, batch_size=2)).complete(trial).key == key
    prompt = replace(SETTINGS, prompt="{input}: ")
    assert make_runner(settings=prompt).complete(trial).key != key


def test_settings_of_a_trial_can_be_read_in_its_file(make_runner):
    runner = make_runner()
    trial = runner.complete(Trial("tiny-gpt2", "toy", 16))
    settings = json.loads(json.dumps(trial.settings))
    assert settings["data"] == runner.data.fingerprint
    assert settings["optimizer"] == {
        "name": "torch.optim.adamw.AdamW", "lr": 3e-3, "weight_decay": 0.01,
    }  # fmt: skip
    assert settings["scheduler"]["name"] == "linear"
    assert settings["training"]["batch_size"] == 8
    assert settings["trainer"]["precision"] == "32-true"
    assert settings["dtype"] == "float32"
    assert settings["environment"]["torch"] == torch.__version__


def test_estimated_cost_is_what_a_trial_then_costs(make_runner):
    """Exact at D_full = all pairs, where the mean length is no sample's, and at D = 0."""
    runner = make_runner(names=("gpt2", "t5"), sizes=[0, 16])
    task = runner.task()
    for name in task.names:
        for size in (0, 80):
            result = runner.run(Trial(name, "toy", size))
            assert task.costs[name, size] == pytest.approx(result.flops, rel=1e-9)
        measured = runner.run(Trial(name, "toy", 16)).flops
        assert task.costs[name, 16] == pytest.approx(measured, rel=0.1)


def test_the_task_holds_candidates_sizes_and_seed(make_runner):
    runner = make_runner(seed=4, n_samples_full=64, sizes=[32, 0, 8])
    task = runner.task()
    assert task.names == ("tiny-gpt2", "tiny-opt")
    assert task.dataset == "toy"
    assert task.n_samples_full == 64
    assert task.available == dict.fromkeys(task.names, (0, 8, 32))
    assert task.seed == 4
    assert [c.family for c in task.candidates] == ["gpt2", "opt"]
    assert [c.n_params for c in task.candidates] == [
        runner.sources[name].n_params for name in task.names
    ]
    assert make_runner().task().n_samples_full == 80


def test_results_are_the_same_whatever_the_measure_and_the_task_names_it(make_runner):
    trial = Trial("tiny-gpt2", "toy", 0)
    by_token, runner = make_runner().run(trial), make_runner(measure="loss_per_byte")
    assert runner.run(trial) == by_token
    measure = runner.task().measure
    assert by_token.value(measure) == by_token.test_loss_per_byte != by_token.test_loss
    error, examples = by_token.test_loss_per_byte_se, ExampleLosses.from_json(by_token.examples)
    half_precision = pytest.approx(examples.per_byte().standard_error(), rel=1e-2)
    assert error == half_precision
    (stored,) = make_runner().store.results()
    assert stored == by_token
    # A store of an earlier version has no error per byte: its examples tell it.
    runner.store.add(replace(stored, test_loss_per_byte_se=math.nan))
    assert runner.run(trial).test_loss_per_byte_se == half_precision


def test_loggers_see_config_metrics_and_result(make_runner, tmp_path):
    from lensllm.finetune.loggers import CSVTrialLogger

    make_logger = partial(CSVTrialLogger, save_dir=tmp_path / "csv", group="sweep")
    result = make_runner(make_logger=make_logger).run(Trial("tiny-gpt2", "toy", 64))
    folder = tmp_path / "csv" / "sweep" / "tiny-gpt2-D64-s0"
    assert "n_samples: 64" in (folder / "hparams.yaml").read_text()
    text = (folder / "metrics.csv").read_text()
    header = text.splitlines()[0].split(",")
    assert {"train_loss", "val_loss", "test_loss", "result/flops"} <= set(header)
    last = dict(zip(header, text.splitlines()[-1].split(","), strict=True))
    assert float(last["result/test_loss"]) == pytest.approx(result.test_loss)


@pytest.mark.parametrize("step", ["log_result", "finish"])
def test_a_tracker_that_fails_in_the_end_does_not_lose_the_trial(
    make_runner, tmp_path, monkeypatch, caplog, step
):
    from lensllm.finetune.loggers import CSVTrialLogger

    def fail(*_, **__):
        raise OSError("no tracker")

    monkeypatch.setattr(CSVTrialLogger, step, fail)
    runner = make_runner(make_logger=partial(CSVTrialLogger, save_dir=tmp_path / "csv"))
    trial = Trial("tiny-gpt2", "toy", 16)
    assert runner.run(trial).status == "completed"
    assert "no tracker" in caplog.text
    monkeypatch.setattr("lensllm.execution.finetune.run_trial", lambda *_, **__: pytest.fail("ran"))
    assert make_runner().run(trial).status == "completed"


def test_a_logger_is_closed_when_the_trial_fails(make_runner, monkeypatch):
    closed = []

    class Logger:
        def __init__(self, label, config, job_type, run_tags):
            self.label = label

        def finish(self, succeeded):
            closed.append((self.label, succeeded))

    def fail(*_, **__):
        raise RuntimeError("no power")

    monkeypatch.setattr("lensllm.execution.finetune.run_trial", fail)
    runner = make_runner(make_logger=Logger)
    result = runner.run(Trial("tiny-gpt2", "toy", 8))
    assert (result.status, result.reason) == ("failed", "RuntimeError: no power")
    assert closed == [("tiny-gpt2-D8-s0", False)]
    assert list(runner.store.results()) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_runs_without_a_network(make_runner, tmp_path, monkeypatch, mode):
    from lensllm.finetune.loggers import WandbTrialLogger

    monkeypatch.delenv("WANDB_MODE")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    make_logger = partial(WandbTrialLogger, save_dir=tmp_path / "out", mode=mode, group="sweep")
    runner = make_runner(make_logger=make_logger)
    for size in (0, 8):
        assert runner.run(Trial("tiny-gpt2", "toy", size)).status == "completed"
    files = list((tmp_path / "out").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == (2 if mode == "offline" else 0)


def test_an_unknown_wandb_mode_is_refused(tmp_path):
    from lensllm.finetune.loggers import WandbTrialLogger

    with pytest.raises(ValueError, match=r"logger\.wandb\.mode .* got 'sometimes'"):
        WandbTrialLogger("a", {}, mode="sometimes", save_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1e-3}, r"settings for optimizer, got lr=-0\.001.*[Ii]nvalid learning rate"),
        ({"n_samples_full": 81}, r"between 1 and 80, the training pairs of 'toy', got 81"),
        ({"n_samples_full": 0}, r"between 1 and 80, .* got 0"),
        ({"n_samples_full": 40, "sizes": [0, 41]}, r"up to n_samples_full = 40, got 41"),
        ({"sizes": [0, -8]}, r"sizes >= 0, got -8"),
        ({"sizes": [8, 0, 8]}, r"each size once, got 8 twice"),
        ({"measure": "word"}, r"loss, loss_per_byte, accuracy, .*got 'word'"),
        ({"names": []}, r"at least one candidate in `candidates\.models`, got none"),
        ({"names": ["opt", "opt"]}, r"names of their own, got 'tiny-opt' twice"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(make_runner, options, message):
    with pytest.raises(ValueError, match=message):
        make_runner(**options)


def test_trials_that_cannot_be_run_are_refused(make_runner):
    runner = make_runner()
    with pytest.raises(ValueError, match=r"candidates tiny-gpt2, tiny-opt, got 'bert'"):
        runner.run(Trial("bert", "toy", 8))
    with pytest.raises(ValueError, match=r"`n_samples` <= 80, .* of 'toy', got 81"):
        runner.run(Trial("tiny-opt", "toy", 81))
    with pytest.raises(ValueError, match=r"data set 'toy', got 'flan'"):
        runner.run(Trial("tiny-opt", "flan", 8))


def test_before_fine_tuning_data_may_lie_on_the_disk(make_runner, pairs, tmp_path):
    import pandas as pd

    from lensllm.data import load_parquet

    path = tmp_path / "pairs.parquet"
    pd.DataFrame(pairs, columns=["input", "target"]).to_parquet(path)
    data = load_parquet(
        str(path), n_validation=15, n_test=25, max_input_tokens=48, max_target_tokens=24
    )
    runner = make_runner(data=data, token_cache=tmp_path / "tokens")
    results = {n: runner.run(Trial("tiny-gpt2", data.name, n)) for n in (0, 16)}
    assert [result.reason for result in results.values()] == ["", ""]
    plain = make_runner(data=data, store=TrialStore(tmp_path / "other"))
    for n, result in results.items():
        assert plain.run(Trial("tiny-gpt2", data.name, n)).test_loss == result.test_loss
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_candidates_over_a_limit_are_left_out_before_anything_is_spent(make_runner, monkeypatch):
    from lensllm.core.limits import Limits

    sizes = {c.name: c.n_params for c in make_runner(("gpt2", "opt", "t5")).task().candidates}
    runner = make_runner(("gpt2", "opt", "t5"), limits=Limits(max_params=max(sizes.values()) - 1))
    assert list(runner.inspect()) == [max(sizes, key=sizes.get)]
    task = runner.task()
    assert "Expected parameters of at most" in task.failures[max(sizes, key=sizes.get)]
    assert all(0 < c.memory_gb < 0.1 and math.isnan(c.latency_ms) for c in task.candidates)
    timed = []
    monkeypatch.setattr(
        "lensllm.execution.finetune.measure_latency",
        lambda source, *_: timed.append(source.name) or 40.0,
    )
    limits = Limits(max_latency_ms=50, licence=["unknown"])
    arms = {"source": runner.sources["tiny-opt"].source, "lr": [1e-3, 3e-3]}
    task = make_runner([], limits=limits, sources=[arms]).task()
    assert [c.name for c in task.candidates] == ["tiny-opt lr=0.001", "tiny-opt lr=0.003"]
    assert {c.base_model for c in task.candidates} == {"tiny-opt"}
    assert [c.latency_ms for c in task.candidates] == [40.0, 40.0]
    assert len(timed) == 1  # arms are equally fast
    with pytest.raises(NoCandidateError, match="latency of at most 30 ms, got 40 ms"):
        make_runner(limits=Limits(max_latency_ms=30)).task()


def test_each_arm_is_tuned_with_its_own_learning_rate(make_runner, model_folders):
    item = {"source": str(model_folders["opt"]), "lr": [1e-4, 1e-2]}
    runner = make_runner([], sources=[item])
    slow, fast = (runner.run(Trial(name, "toy", 32)) for name in runner.sources)
    rates = [result.trial.settings["optimizer"]["lr"] for result in (slow, fast)]
    assert rates == [1e-4, 1e-2]
    assert fast.test_loss < slow.test_loss
