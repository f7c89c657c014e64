"""Past runs of other programs, their files written by those programs."""

import importlib.util
import json
import logging
import math
import shutil

import pytest

from lensllm import read_curves
from lensllm.core.past_runs import PastRunOptions, curves_of, read_past_runs, recognise, take
from lensllm.core.past_runs.trainer_state import estimated_n_samples
from lensllm.core.past_runs.wandb_csv import is_wandb_csv


def taken(path, **told):
    """What is taken from the only run at a path."""
    (item,) = take(read_past_runs(path, told.get("source")), PastRunOptions(**told))
    return item


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_state(folder, losses, **state):
    """A `trainer_state.json` as a program beside the Trainer would leave it."""
    history = [{"step": 10 * (i + 1), "eval_loss": x} for i, x in enumerate(losses)]
    values = {"global_step": 30, "max_steps": 30, "epoch": 3.0, "train_batch_size": 4, **state}
    return write(folder / "trainer_state.json", json.dumps({"log_history": history, **values}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the Trainer that is also one of W&B: 37 samples, two batches of 4 a step, 3 epochs.

    Its folder, what it logged, and the folder of W&B.
    """
    import wandb
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    folder = tmp_path_factory.mktemp("runs") / "tiny-D37-s5"
    tracked = tmp_path_factory.mktemp("tracked")
    config = GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=1, n_positions=8)
    data = [{"input_ids": [1, 2, i % 32], "labels": [1, 2, i % 32]} for i in range(37)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(tracked))
        wandb.teardown()  # it may have read another environment in an earlier test
        arguments = TrainingArguments(
            str(folder),
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            num_train_epochs=3,
            eval_strategy="epoch",
            save_strategy="epoch",
            eval_on_start=True,
            learning_rate=0.5,
            seed=7,
            report_to=["wandb"],
            use_cpu=True,
            disable_tqdm=True,
        )
        model = GPT2LMHeadModel(config)
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:5])
        trainer.train()
        trainer.save_state()
        wandb.finish()
    return folder, trainer.state.log_history, tracked


@pytest.fixture(scope="module")
def trainer_run(trained):
    return trained[:2]


TOLD = {"model_name": "tiny", "dataset_name": "docs"}


def test_a_run_of_the_trainer(trainer_run):
    folder, log = trainer_run
    losses = [row["eval_loss"] for row in log if "eval_loss" in row]
    curves = read_curves(folder.parent, **TOLD, seed_from=r"-s(\d+)$")
    assert curves[["model", "dataset"]].drop_duplicates().to_numpy().tolist() == [["tiny", "docs"]]
    assert curves["n_samples"].tolist() == [0, 37]  # gradient accumulation is seen
    assert curves["test_loss"].tolist() == [losses[0], min(losses[1:])]
    assert curves["seed"].tolist() == [5, 5]
    assert curves["flops"].tolist() == [0.0, log[-1]["total_flos"]]
    assert curves["seconds"].iloc[1] == log[-1]["train_runtime"]
    last = read_curves(folder / "trainer_state.json", **TOLD, evaluation="last")
    assert last["test_loss"].iloc[1] == losses[-1]


def test_the_same_run_from_wandb(trainer_run, trained):
    told = {"model_name": "tiny", "dataset_name": "docs"}
    curves = read_curves(trained[2], **told)
    expected = read_curves(trainer_run[0], **told)
    assert curves["seed"].tolist() == [7, 7]
    columns = ["n_samples", "test_loss", "flops", "seconds"]
    assert curves[columns].equals(expected[columns])


def test_a_run_of_the_trainer_that_left_checkpoints_alone(trainer_run, tmp_path):
    shutil.copytree(trainer_run[0], tmp_path / "run")
    (tmp_path / "run" / "trainer_state.json").unlink()
    latest = tmp_path / "run" / "checkpoint-15" / "trainer_state.json"
    item = taken(tmp_path / "run", **TOLD)
    assert item.run.path == latest
    assert item.found["flops"] == trainer_run[1][-1]["total_flos"]
    assert item.found["n_samples"] == 20  # 15 steps × 4 ÷ 3 epochs
    assert item.sources["n_samples"] == "steps × batch ÷ epochs = 15 × 4 ÷ 3"
    assert (
        "too small by the factor of gradient accumulation and devices, not told" in item.notes[-1]
    )

    latest.write_text(latest.read_text()[:300])  # killed while it was written
    item = taken(tmp_path / "run", **TOLD)
    assert item.run.path.parent.name == "checkpoint-10"
    assert "ended at step 10 of 15" in item.notes
    assert f"Expected whole JSON in {latest}" in item.notes[0]

    latest.write_text('{"log_history": {}, "trial_params": [1]}')
    assert f"Expected a state of the Trainer in {latest}" in taken(tmp_path / "run", **TOLD).notes
    for path in tmp_path.glob("run/*/trainer_state.json"):
        path.write_text("{")
    with pytest.raises(ValueError, match=r"got none: run: left out: Expected whole JSON in .*-15"):
        read_curves(tmp_path, **TOLD)


def test_what_stands_beside_a_state_tells_model_and_samples(tmp_path):
    write_state(tmp_path / "a", [2.0, 1.5, 1.8], trial_params={"seed": 3})
    write(tmp_path / "a" / "train_results.json", '{"train_samples": 1000}')
    write(tmp_path / "a" / "config.json", '{"_name_or_path": "local"}')
    write(tmp_path / "a" / "adapter_config.json", '{"base_model_name_or_path": "org/base"}')
    item = taken(tmp_path / "a", dataset_name="docs")
    assert item.found["model"] == "org/base"
    assert item.sources["model"] == "base_model_name_or_path in adapter_config.json"
    assert (item.found["n_samples"], item.found["seed"]) == (1000, 3)
    assert item.sources["n_samples"] == "train_samples in train_results.json"
    assert item.sources["test_loss"] == "eval_loss: best of 3 (step 20)"
    (tmp_path / "a" / "adapter_config.json").unlink()
    write(tmp_path / "a" / "config.json", '{"_name_or_path": "/models/my-model"}')
    assert taken(tmp_path / "a", dataset_name="docs").found["model"] == "my-model"


@pytest.mark.parametrize("scaled", [True, False])
def test_samples_from_speeds_also_of_a_run_that_stopped_early(scaled):
    # 1000 samples, 8 a step, planned for 10 epochs, stopped after 4; versions differ in what
    # they count: the steps that were taken, or those that were planned.
    epochs, seconds = (4 if scaled else 10), 250.0
    speeds = {
        "train_runtime": seconds,
        "train_samples_per_second": round(1000 * epochs / seconds, 3),
        "train_steps_per_second": round(125 * epochs / seconds, 3),
    }
    state = {"global_step": 500, "epoch": 4.0, "max_steps": 1250}
    found = estimated_n_samples(state, [speeds], 2.0, "")
    assert (found.n_samples, found.caveat) == (1000, "")
    slow = {key: value * (100 if key == "train_runtime" else 0.01) for key, value in speeds.items()}
    slow = {key: round(value, 3) for key, value in slow.items()}
    assert "D is told to within" in estimated_n_samples(state, [slow], 2.0, "").caveat
    assert estimated_n_samples({"global_step": 5}, [], 2.0, "") is None
    assert estimated_n_samples({"global_step": 5, "epoch": 1.0}, [], math.nan, "") is None


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory):
    """Two offline runs; the first is long enough for a record that is split between blocks."""
    import wandb

    folder = tmp_path_factory.mktemp("wandb")
    for name, losses in {"a": [2.0, 1.5, 1.75], "b": [math.nan]}.items():
        config = {"model": f"org/{name}", "n_samples": 200, "data": {"name": "docs"}, "seed": 1}
        run = wandb.init(mode="offline", project="p", name=name, dir=folder, config=config)
        for loss in losses:
            run.log({"train/loss": 3.0, "eval/loss": loss, "text": "x" * 40_000})
        run.summary["result/flops"] = 5e9
        run.finish()
    return folder


def test_offline_runs_of_wandb(wandb_folder, caplog):
    with caplog.at_level(logging.WARNING):
        curves = read_curves(wandb_folder)
    columns = ["model", "dataset", "n_samples", "seed", "test_loss", "flops"]
    assert curves[columns].to_numpy().tolist() == [["org/a", "docs", 200, 1, 1.5, 5e9]]
    assert "Run b: left out: eval/loss is not finite at any of 1 evaluations" in caplog.text
    (item, _) = take(read_past_runs(wandb_folder), PastRunOptions(evaluation="last"))
    assert item.found["test_loss"] == 1.75
    assert item.sources["dataset"] == "data.name in its config"


def test_wandb_files_that_are_cut_or_something_else(wandb_folder, tmp_path):
    (path,) = (p for p in wandb_folder.rglob("run-*.wandb") if len(p.read_bytes()) > 200_000)
    cut = tmp_path / "run-x.wandb"
    cut.write_bytes(path.read_bytes()[:200_000])  # in the midst of the third evaluation
    item = taken(cut, evaluation="last")
    assert item.found["test_loss"] == 1.5
    assert item.notes == ("it has no end: the run was killed, or goes on",)
    cut.write_bytes(b"something else")
    assert "begin with b':W&B" in taken(cut).problem


TABLE = """Name,State,Runtime,Created,_step,base,max_train_samples,eval/loss,train/loss
one,finished,60,2026-01-01,300,gpt2,200,2.5,2.1
one,finished,90,2026-01-02,600,gpt2,400,2.25,2
two,crashed,9,2026-01-03,20,gpt2,800,4.5,4
three,finished,99,2026-01-04,900,gpt2,1600,NaN,NaN
"""


def test_a_table_of_runs_from_wandb(tmp_path):
    path = write(tmp_path / "wandb.csv", TABLE)
    told = {"dataset_name": "docs", "model_from": "base", "n_samples_from": "max_train_samples"}
    items = take(read_past_runs(path), PastRunOptions(**told))
    assert {item.run.name: item.problem for item in items if item.problem} == {
        "two": "its state is crashed, so that its loss is not final",
        "three": "eval/loss is not finite at any of 1 evaluations: it diverged",
    }
    curves = curves_of(items)
    assert curves["n_samples"].tolist() == [200, 400]
    assert curves["test_loss"].tolist() == [2.5, 2.25]
    assert curves["seconds"].tolist() == [60.0, 90.0]
    assert items[0].sources["test_loss"] == "eval/loss: the only one (step 300)"
    assert "holds the last value of each measure alone" in items[0].notes[0]
    assert (
        read_curves(path, **told)
        .drop(columns=["seed"])
        .equals(curves[["model", "dataset", "n_samples", "test_loss", "seconds", "run"]])
    )


def test_a_history_and_a_chart_from_wandb(tmp_path):
    lines = ["Name,_step,n_samples,eval/loss", "a,1,200,2.0", "a,2,200,", "a,3,200,1.5"]
    path = write(tmp_path / "history.csv", "\n".join(lines))
    item = taken(path, model_from="Name", dataset_name="docs")
    assert (item.found["model"], item.found["n_samples"]) == ("a", 200)
    assert item.sources["test_loss"] == "eval/loss: best of 2 (step 3)"
    lines = ["Step,x-D200 - eval/loss,x-D200 - eval/loss__MIN,y-D400 - eval/loss"]
    lines += ["1,2.0,0.1,3.0", "2,1.5,0.1,", "3,1.75,0.1,2.5"]
    path = write(tmp_path / "chart.csv", "\n".join(lines))
    told = {"model_from": "^(.)-", "n_samples_from": r"-D(\d+)", "dataset_name": "docs"}
    curves = read_curves(path, **told)
    assert curves["n_samples"].tolist() == [200, 400]
    assert curves["test_loss"].tolist() == [1.5, 2.5]


def test_what_is_a_table_of_wandb():
    assert is_wandb_csv(["Name", "200", "eval/loss"])
    assert not is_wandb_csv(["Name", "size", "200", "400"])
    assert not is_wandb_csv(["model", "n_samples", "test_loss"])


def test_logs_of_lightning(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    for version, losses in {"opt-D200": [2.0, 1.5, 1.75], "opt-D400": [1.25]}.items():
        logger = CSVLogger(tmp_path, name="logs", version=version)
        logger.log_hyperparams({"data": {"name": "docs"}, "model": "opt", "seed": 2})
        for step, loss in enumerate(losses):
            logger.log_metrics({"train_loss": 3.0}, step)
            logger.log_metrics({"val_loss": loss}, step)
        logger.finalize("success")
    curves = read_curves(tmp_path, n_samples_from=r"-D(\d+)")
    columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
    assert curves[columns].to_numpy().tolist() == [
        ["opt", "docs", 200, 2, 1.5],
        ["opt", "docs", 400, 2, 1.25],
    ]
    folder = tmp_path / "logs" / "opt-D200"
    assert recognise(folder) == recognise(folder / "metrics.csv") == "lightning"
    assert taken(folder, n_samples=200).found["test_loss"] == 1.5
    assert len(read_curves(folder, n_samples=200)) == 1
    write(folder / "hparams.yaml", "model: !!python/object/apply:os.getcwd []")
    item = taken(folder, n_samples=200)
    assert "hparams.yaml is not read" in item.notes[0]
    assert "its model is not told: give model_name=... or model_from=" in item.problem


def write_studies(storage):
    import optuna

    study = optuna.create_study(study_name="docs", storage=storage)
    for n_samples in (200, 400):
        trial = study.ask({"n_samples": optuna.distributions.IntDistribution(1, n_samples)})
        trial.set_user_attr("size", n_samples)
        trial.set_user_attr("base", "gpt2")
        study.tell(trial, 500 / n_samples)
    study.ask()
    other = optuna.create_study(study_name="scores", storage=storage, direction="maximize")
    other.tell(other.ask(), 0.9)


def has_optuna():
    """Whether Optuna is here with journal files; an older one fails beside a new SQLAlchemy."""
    if importlib.util.find_spec("optuna") is None:
        return False
    import optuna

    return hasattr(optuna.storages, "JournalStorage")


@pytest.mark.skipif(not has_optuna(), reason="needs optuna >= 4")
@pytest.mark.parametrize("kind", ["sqlite", "url", "journal"])
def test_studies_of_optuna(kind, tmp_path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = tmp_path / "studies"
    is_journal = kind == "journal"
    write_studies(
        JournalStorage(JournalFileBackend(str(path))) if is_journal else f"sqlite:///{path}"
    )
    told = {"n_samples_from": "size", "model_from": "base", "dataset_from": "^(.+)/"}
    items = take(
        read_past_runs(f"sqlite:///{path}" if kind == "url" else path), PastRunOptions(**told)
    )
    curves = curves_of(items)
    assert curves["dataset"].unique().tolist() == ["docs"]
    assert curves["n_samples"].tolist() == [200, 400]
    assert curves["test_loss"].tolist() == [2.5, 1.25]
    left_out = {item.run.name: item.problem for item in items if item.problem}
    assert left_out["docs/2"] == "its state is running, not complete"
    assert "no evaluation loss was logged" in left_out["scores/0"]
    assert items[-1].notes == ("its objective is no loss to minimise",)


def test_without_optuna_its_studies_are_refused_in_words(tmp_path, monkeypatch):
    import sys

    path = tmp_path / "study.db"
    with pytest.raises(FileNotFoundError, match=r"found no file at .*study.db"):
        read_curves(f"sqlite:///{path}")
    path.write_bytes(b"SQLite format 3\x00" + bytes(100))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"it is optional: pip install optuna$"):
        read_curves(path)


def test_runs_that_cannot_be_told_apart_are_named(tmp_path):
    write_state(tmp_path / "a-s1", [2.0])
    write_state(tmp_path / "a-s2", [1.5])
    told = {"model_name": "m", "dataset_name": "docs", "n_samples": 200}
    files = r".*a-s1.trainer_state.json and .*a-s2.trainer_state.json"
    message = rf"got 'a-s1' and 'a-s2' for 'm' on 'docs' at .*losses 2 and 1.5 \(files {files}\)"
    with pytest.raises(ValueError, match=message):
        read_curves(tmp_path, **told)
    curves = read_curves(tmp_path, **told, seed_from=r"-s(\d)")
    assert curves["test_loss"].tolist() == [2.0, 1.5]


def test_trials_that_were_logged_again_count_once(tmp_path, caplog):
    # a tracker may keep single precision of what is logged again
    for sweep, sizes, off in (("first", (100, 200), 0.0), ("second", (100, 200, 400), 1e-7)):
        for size in sizes:
            write_state(tmp_path / sweep / f"a-D{size}", [1.0 + 100 / size + off * (size < 400)])
    told = {"model_name": "m", "dataset_name": "docs", "n_samples_from": r"-D(\d+)"}
    curves = read_curves(tmp_path, **told)
    assert curves["n_samples"].tolist() == [100, 200, 400]
    assert curves["test_loss"].tolist() == [2.0, 1.5, 1.25]
    assert "second/a-D100, second/a-D200: left out: it has the model" in caplog.text
    assert "logged again (2 runs)" in caplog.text


def test_a_tracked_trial_keeps_its_size_family_and_loss_per_byte(tmp_path):
    write(tmp_path / "hparams.yaml", "model: a\ndataset: docs\nn_samples: 100\nfamily: gpt2\n")
    columns = "step,result/test_loss,result/test_loss_per_byte,result/n_params,val_loss\n"
    write(tmp_path / "metrics.csv", f"{columns}9,2.0,0.5,1000,2.5\n")
    row = read_curves(tmp_path).iloc[0]
    assert (row["test_loss"], row["test_loss_per_byte"]) == (2.0, 0.5)
    assert (row["n_params"], row["family"]) == (1000, "gpt2")
    other = read_curves(tmp_path, loss="val_loss")
    assert "test_loss_per_byte" not in other  # which is that of another loss


def test_a_trial_store_is_no_past_run(tmp_path):
    write(tmp_path / "trials" / f"{'0123' * 4}.json", "{}")
    with pytest.raises(
        ValueError, match=r"got the trial store .*: curves=.*trials or prior_curves"
    ):
        read_past_runs(tmp_path / "trials")


def test_untrained_losses_that_disagree_are_told(tmp_path, caplog):
    for name, before in {"a-D100": 4.0, "a-D200": 4.01, "a-D400": 5.0}.items():
        history = [{"step": 0, "eval_loss": before}, {"step": 9, "eval_loss": 2.0}]
        write_state(tmp_path / name, [], log_history=history)
    curves = read_curves(tmp_path, model_name="m", dataset_name="docs", n_samples_from=r"D(\d+)")
    assert curves["n_samples"].tolist() == [0, 100, 200, 400]
    assert curves["test_loss"].tolist() == [4.0, 2.0, 2.0, 2.0]
    assert [text for text in caplog.messages if "before training" in text] == [
        "Loss of m on docs before training is 4 in one run and 5 in a-D400: are these different "
        "evaluation sets? Then the losses cannot be compared."
    ]


@pytest.mark.parametrize(
    ("losses", "told", "message"),
    [
        ([], {}, "no evaluation loss was logged: name one of nothing by loss=NAME"),
        ([math.nan], {}, "eval_loss is not finite at any of 1 evaluations: it diverged"),
        ([2.0, math.nan], {"evaluation": "last"}, "eval_loss is not finite at the last evaluation"),
        ([-1.0], {}, "expected a loss > 0, got eval_loss = -1: is it no loss?"),
        (
            [2.0],
            {"loss": "f1"},
            "no loss 'f1' was logged: name one of step, eval_loss by loss=NAME",
        ),
        ([2.0], {"model_from": r"^(\d+)$"}, r"model_from=^(\d+)$ does not match its name"),
        ([2.0], {"model_from": "base"}, "model_from=base is no setting or column of it"),
        (
            [2.0],
            {"n_samples_from": "D(.+)"},
            r"whole number >= 0 as D (n_samples_from=D(.+)), got 'x'",
        ),
        ([2.0], {}, "its model is not told: give model_name=... or model_from=COLUMN_OR_PATTERN"),
        ([2.0], {}, "its data set is not told: give dataset_name=... or dataset_from="),
    ],
)
def test_what_a_run_does_not_tell_is_said(losses, told, message, tmp_path):
    write_state(tmp_path / "a-Dx", losses)
    assert message in taken(tmp_path / "a-Dx", **told).problem or message in (
        taken(tmp_path / "a-Dx", **told, n_samples=5).problem
    )


def test_some_evaluations_that_are_not_finite_are_noted(tmp_path):
    write_state(tmp_path, [2.0, math.nan])
    item = taken(tmp_path, **TOLD)
    assert item.found["test_loss"] == 2.0
    assert "eval_loss is not finite at 1 of 2" in item.notes


def test_places_without_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*absent"):
        read_past_runs(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"found none of trainer_state.json, run-"):
        read_past_runs(tmp_path / "empty")
    with pytest.raises(ValueError, match="found neither, nor past runs"):
        read_curves(tmp_path / "empty")
    with pytest.raises(ValueError, match="found none of source=lightning"):
        read_past_runs(tmp_path / "empty", "lightning")
    with pytest.raises(ValueError, match=r"`source` among trainer, .*, got 'tensorboard'"):
        read_past_runs(tmp_path / "empty", "tensorboard")
    path = write(tmp_path / "w.csv", "Name,eval/loss\n")
    with pytest.raises(ValueError, match=r"Expected rows in .*w.csv, got none"):
        read_past_runs(path)


def test_several_sources_in_one_folder_need_a_word(tmp_path):
    write_state(tmp_path / "a", [2.0])
    write(tmp_path / "b" / "metrics.csv", "step,val_loss\n1,1.5\n")
    with pytest.raises(ValueError, match="source=lightning or source=trainer"):
        read_past_runs(tmp_path)
    assert taken(tmp_path, source="lightning").found["test_loss"] == 1.5


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"evaluation": "first"}, "`evaluation` among best, last, got 'first'"),
        ({"model_from": "("}, "regular expression as `model_from`, got '\\('"),
        ({"seed_from": "(a)(b)"}, "Expected one group in `seed_from`, got 2"),
    ],
)
def test_options_are_checked(told, message):
    with pytest.raises(ValueError, match=message):
        PastRunOptions(**told)


def test_the_command_prints_what_it_took_and_its_curves_are_read(run_main, tmp_path):
    from scripts.import_runs import main

    for n_samples in (100, 200, 400):
        write_state(tmp_path / "runs" / f"gpt2-D{n_samples}", [3.0, 100 / n_samples])
    write_state(tmp_path / "runs" / "gpt2-D800", [])
    pattern = r'n_samples_from="-D(\d+)$"'
    output = tmp_path / "curves.csv"
    words = ["dataset_name=docs", 'model_name="=x"', pattern, f"output={output}"]
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    done = run_main(main, f"path={tmp_path / 'runs'}", *words, folder)
    assert (done.code, done.err) == (0, "")
    assert f"3 of 4 runs are 3 points of curves in {output}" in done.out
    assert "gpt2-D800: left out: no evaluation loss was logged: name one of nothing" in done.out
    assert "0.25" in done.out
    curves = read_curves(output)
    assert curves["n_samples"].tolist() == [100, 200, 400]
    assert curves["model"].unique().tolist() == ["=x"]
    assert curves["test_loss"].tolist() == [1.0, 0.5, 0.25]

    done = run_main(main, f"path={tmp_path / 'runs'}", folder)
    assert done.code == 2
    assert "got none: gpt2-D100, gpt2-D200, gpt2-D400: left out: its model is not told" in done.err
    done = run_main(main, f"path={tmp_path / 'nowhere'}", folder)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "found nothing at" in done.err


def test_curves_of_past_runs_are_earlier_tasks_and_a_benchmark(tmp_path, monkeypatch):
    from lensllm.evaluation.benchmark import Benchmark

    for model in "ab":
        for n_samples in (100, 200):
            write_state(tmp_path / f"{model}-D{n_samples}", [50 / n_samples])
    curves = read_curves(
        tmp_path, model_from="^(.)-", dataset_name="docs", n_samples_from=r"D(\d+)$"
    )
    runner = Benchmark("past", curves).runner("docs")
    assert {item.name for item in runner.task().candidates} == {"a", "b"}
    assert runner.task().n_samples_full == 200
