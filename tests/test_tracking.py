"""What experiment trackers hold of real campaigns and sweeps, read back from their files."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lensllm.core.curves import read_curves
from lensllm.core.past_runs.wandb_files import records
from lensllm.core.trials import TrialStore

SMALL = (
    "dataset=jsonl",
    "dataset.max_input_tokens=48",
    "dataset.max_evaluation=20",
    "trainer.enable_progress_bar=false",
    "training.max_epochs=1",
    "training.n_evaluations=2",
)


class Run:
    """A run of W&B: what its program told it."""

    def __init__(self, path: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        self.config, self.summary, self.history, self.artifacts = {}, {}, [], {}
        self.metrics, self.exit_code = {}, None
        for data in records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.name, self.job_type = record.run.display_name, record.run.job_type
                self.group, self.tags = record.run.run_group, set(record.run.tags)
                self.config |= values(record.run.config.update)
            elif kind == "config":
                self.config |= values(record.config.update)
            elif kind == "history":
                self.history.append(values(record.history.item))
            elif kind == "summary":
                self.summary |= values(record.summary.update)
            elif kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric
            elif kind == "artifact":
                names = {entry.path for entry in record.artifact.manifest.contents}
                self.artifacts[record.artifact.type] = names
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def logged(self, key):
        return [row[key] for row in self.history if key in row]


def values(items):
    return {x.key or ".".join(x.nested_key): json.loads(x.value_json) for x in items}


def runs(folder):
    return [Run(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


@pytest.fixture
def command(run_main, jsonl_300, tmp_path, monkeypatch):
    """Run a command on 300 pairs, with output and stores in `tmp_path`."""
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setattr("lensllm.finetune.loggers.WandbTrialLogger.offline_folders", [])

    def run(main, *overrides):
        paths = f"dataset.path={jsonl_300}", f"paths.output_dir={tmp_path}"
        done = run_main(main, *SMALL, *paths, *overrides)
        assert done.code == 0, done.err
        return done

    return run


def test_a_campaign_and_its_trials_are_runs_of_wandb_and_of_csv(
    command, model_folders, tmp_path, caplog
):
    from lensllm.commands.select import main

    folders = ",".join(str(model_folders[name]) for name in ("gpt2", "t5"))
    done = command(
        main,
        "candidates=custom",
        f"candidates.models=[{folders}]",
        "logger=[wandb,csv]",
        "logger.wandb.tags=[mine]",
        "n_samples_full=192",
        "sizes=[0,12,24]",
        "selector=sub_tuning",
        "budget.fraction=0.5",
        f"hydra.run.dir={tmp_path}/first",
    )
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in done.out
    record = json.loads((tmp_path / "first" / "selection.json").read_text())
    campaign, *trials = sorted(runs(tmp_path), key=lambda run: run.job_type)
    stored = {f"{r.trial.model}-D{r.trial.n_samples}-s0": r for r in store(tmp_path)}
    assert {run.name for run in trials} == set(stored)
    assert {run.group for run in (campaign, *trials)} == {"select own first"}

    assert (campaign.job_type, campaign.exit_code) == ("campaign", 0)
    assert campaign.name == "campaign-own"
    assert campaign.tags == {"mine", "own", "sub_tuning"}
    assert campaign.config["candidates"] == ["tiny-gpt2", "tiny-t5"]
    assert campaign.config["settings"]["budget"]["fraction"] == 0.5
    assert campaign.summary["best"] == record["selected"]
    assert campaign.summary["cost"] == pytest.approx(record["cost_flops"])
    assert campaign.summary["n_trials"] == len(trials)
    assert campaign.summary["answer"] == record["sentence"]
    spent = next(note["text"] for note in record["notes"] if note["label"] == "Spent")
    assert campaign.summary["answer/Spent"] == spent
    assert {"selection.json", "curves.csv", "report.html"} <= campaign.artifacts["selection"]
    assert campaign.logged("leaderboard.nrows") == [2]
    assert campaign.logged("events.nrows") == [len(record["events"])]
    (table,) = tmp_path.glob("wandb/*/files/media/table/leaderboard_*.json")
    assert record["selected"] in json.loads(table.read_text())["data"][0]
    assert campaign.logged("figures/figure._type") == ["images/separated"]
    spent = campaign.logged("cumulative_flops")
    assert spent == sorted(spent)
    assert campaign.metrics["curve/tiny-t5"].summary.min
    assert spent[-1] == pytest.approx(record["cost_flops"])

    trial = next(run for run in trials if run.name == "tiny-gpt2-D24-s0")
    result = stored[trial.name]
    assert (trial.job_type, trial.exit_code) == ("trial", 0)
    assert trial.tags == {"mine", "own", "gpt2", "full"}
    told = {key: trial.config[key] for key in ("source", "revision", "method", "family")}
    source = str(model_folders["gpt2"])
    assert told == {"source": source, "revision": None, "method": "full", "family": "gpt2"}
    assert trial.config["n_params"] == trial.config["n_params_trained"] == result.n_params
    assert trial.config["data"]["n_train"] == 260
    assert trial.config["n_samples"] == 24
    assert trial.summary["result/test_loss"] == pytest.approx(result.test_loss)
    assert trial.metrics["val_loss"].summary.min
    rows = [row for row in trial.history if "train_loss" in row]
    assert rows
    assert all({"learning_rate", "gradient_norm", "tokens_per_second"} <= set(r) for r in rows)
    flops = [r["cumulative_flops"] for r in trial.history if {"train_loss", "val_loss"} & set(r)]
    assert 0 < flops[0] < flops[-1] < result.flops  # the test comes after them
    assert flops == sorted(flops)

    curves = read_curves(tmp_path / "wandb")  # the trials, as runs of any program
    assert dict(zip(curves["run"], curves["test_loss"], strict=True)) == pytest.approx(
        {name: r.test_loss for name, r in stored.items()}
    )
    assert "campaign-own: left out: it is a campaign" in caplog.text

    (folder,) = tmp_path.glob("csv/select_own_first*")
    assert {path.name for path in folder.iterdir()} == {"campaign-own", *stored}
    board = pd.read_csv(folder / "campaign-own" / "leaderboard.csv")
    assert board.iloc[0]["candidate"] == record["selected"]
    log = (tmp_path / "first" / "select.log").read_text()
    assert "trial 1: tiny-" in log
    assert record["sentence"] in log
    assert all(f"{note['label']}: {note['text']}" in log for note in record["notes"])


def store(folder):
    return list(TrialStore(folder / "trials").results())


def test_a_stored_trial_gets_a_run_where_a_sweep_asks_for_it(command, model_folders, tmp_path):
    from lensllm.commands.train import main

    asked = f"model.source={model_folders['gpt2']}", "n_samples=24", "logger=wandb"
    for _ in range(2):
        command(main, *asked)
    command(main, *asked, "runner.log_stored=false")
    (result,) = store(tmp_path)
    first, second = runs(tmp_path)
    assert second.name == first.name
    assert second.tags == {*first.tags, "stored"}
    assert second.summary["result/validation_loss"] == pytest.approx(result.validation_loss)
    assert second.logged("val_loss") == pytest.approx([loss for _, loss in result.trace])


def test_the_sweep_of_the_example_composes_and_runs(command, model_folders, tmp_path):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    from lensllm.commands.train import main

    path = Path(__file__).parents[1] / "examples" / "sweep.yaml"
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(sweep) <= {"program", "method", "metric", "parameters", "command", "name", "project"}
    given = {
        name: {"value": space["values"][0] if "values" in space else space["min"]}
        for name, space in sweep["parameters"].items()
    }
    args = create_sweep_command_args({"args": given})  # what `wandb agent` does with them
    words = []
    for word in create_sweep_command(list(sweep["command"])):
        words += args["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    assert words[:2] == ["lensllm", "train"]
    words = [word.replace("mode=online", "mode=offline") for word in words[2:]]
    words.remove("dataset=docstrings")  # here they are 300 pairs
    command(main, *words, f"model.source={model_folders['gpt2']}", "n_samples=24")
    (run,) = runs(tmp_path)
    assert run.summary[sweep["metric"]["name"]] > 0
    (result,) = store(tmp_path)
    assert result.trial.settings["optimizer"]["lr"] == given["optimizer.lr"]["value"]
