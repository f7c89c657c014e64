"""Exit codes and one-line errors of the entry points, for each bad input that a user can give."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from omegaconf.errors import ConfigKeyError

from lensllm.commands.entry import _say_how_to_sync, fail, missing_package, one_line
from lensllm.zoo import zoo_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def train(run_main, model_folders, jsonl_300, tmp_path):
    """`lensllm train` on a tiny model and file, with overrides; `dropped` leaves defaults out."""
    from scripts.train import main

    def run(*overrides, dropped=(), folder=model_folders["gpt2"], path=jsonl_300):
        defaults = [
            "model=source",
            f"model.source={folder}",
            "dataset=jsonl",
            f"dataset.path={path}",
            "dataset.max_input_tokens=48",
            "dataset.max_evaluation=20",
            "logger=none",
            "trainer.enable_progress_bar=false",
            "training.max_epochs=1",
            "n_samples=16",
            f"paths.output_dir={tmp_path / 'out'}",
        ]
        kept = [item for item in defaults if item.split("=")[0] not in dropped]
        return run_main(main, *kept, *overrides)

    return run


@pytest.fixture
def select(run_main, model_folders, jsonl_300, tmp_path):
    """`lensllm select` on two tiny models."""
    from scripts.select_model import main

    def run(*overrides):
        models = ",".join(str(model_folders[name]) for name in ("gpt2", "opt"))
        return run_main(
            main,
            "candidates=custom",
            f"candidates.models=[{models}]",
            "dataset=jsonl",
            f"dataset.path={jsonl_300}",
            "dataset.max_input_tokens=48",
            "dataset.max_evaluation=20",
            "logger=none",
            f"paths.output_dir={tmp_path / 'out'}",
            *overrides,
        )

    return run


def told(done, *patterns, code=2):
    """One line on standard error, `error: ...`, that matches all patterns; and the exit code."""
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for pattern in patterns:
        assert re.search(pattern, lines[0]), (pattern, lines[0])
    assert done.code == code
    return lines[0]


def test_a_trial_ends_with_code_0_and_its_result_in_two_places(train, tmp_path):
    done = train()
    assert done.code == 0, done.err
    assert "tiny-gpt2 on own, D = 16, seed 0: completed, test loss" in done.out
    (written,) = (tmp_path / "out" / "train").glob("*/result.json")
    (stored,) = (tmp_path / "out" / "trials").glob("*.json")
    assert json.loads(written.read_text()) == json.loads(stored.read_text())
    record = json.loads(stored.read_text())
    assert record["trial"]["n_samples"] == 16
    assert f"test loss {record['test_loss']:.4f}" in done.out


@pytest.mark.parametrize(
    ("overrides", "patterns"),
    [
        (
            ["dataset=csv", "dataset.path=???"],
            [r"value of dataset\.path, got none"],
        ),
        (["model=source", "model.source=???"], [r"add model\.source=\.\.\. to the command"]),
        (["n_samples=261"], [r"`n_samples` <= 260", "'own'", "got 261"]),
        (["n_samples=-5"], [r"`n_samples`", "got -5"]),
        (["n_samples=abc"], ["abc", "n_samples"]),
        (["n_sampels=8"], [r"got 'n_sampels': did you mean n_samples\?"]),
        (["trainer.max_epoch=3"], [r"trainer\.max_epoch", r"\+trainer\.max_epoch=3"]),
        (["training.prompt=null"], [r"training\.prompt, got None"]),
        (["model=null"], ["choice of model, got null", "gpt2-48x2"]),
        (["optimizer.lr=nan"], [r"finite number as optimizer\.lr, got nan"]),
        (["objective=accuracy"], ["objective among test_loss, validation_loss", "'accuracy'"]),
        (["seed=-1"], ["seed >= 0, got -1"]),
        (["sizes=[]"], [r"in sizes, got \[\]", "null"]),
        (["optimizer.lr=-0.5"], ["optimizer", r"lr=-0\.5", "-0.5"]),
        (["optimizer.lr=fast"], ["optimizer", "fast"]),
        (["training.batch_size=0"], ["`batch_size` > 0, got 0"]),
        (["scheduler.warmup_fraction=2"], [r"`warmup_fraction` in \[0, 1\), got 2"]),
        (["scheduler.name=quadratic"], ["quadratic"]),
        (["model.dtype=float33"], ["`dtype`", "'float33'"]),
        (
            ["dataset.input_field=text"],
            ["'text'", "dataset.input_field", "line 1", "input, target"],
        ),
        (["dataset.target_field=sum"], ["'sum'", "dataset.target_field", "input, target"]),
        (["dataset.test_fraction=0"], ["`test_fraction` > 0", "0"]),
        (["training.prompt=Go"], ["{input}", "'Go'"]),
        (["+typo=1"], ["typo"]),
        (["typo=1"], ["typo"]),
        (["+training.typo=1"], ["typo"]),
        (["+optimizer.typo=1"], ["typo"]),
        (["optimizer=sgdd"], ["sgdd", "adamw"]),
        (["model=gpt5"], ["gpt5", "opt-64x2"]),
        (["measure=word"], ["got 'word'"]),
        (["measure=os:system"], ["got the function 'os:system'", "name its module in the command"]),
        (["sizes=[0,9999]"], ["n_samples_full = 260, got 9999"]),
    ],
    ids=lambda value: value[0] if value and "=" in value[0] else "",
)
def test_bad_settings_of_a_trial(train, tmp_path, overrides, patterns):
    told(train(*overrides), *patterns)
    assert not list(tmp_path.glob("out/trials/*.json"))


def test_an_unknown_model_offline_is_told_with_the_advice(train):
    line = told(train(folder="nobody/no-such-model"), "got 'nobody/no-such-model'", "local model")
    for name in zoo_models():
        assert name in line


def test_a_missing_file_is_told(train, tmp_path):
    told(
        train(path=tmp_path / "none.jsonl"), f"dataset.path={tmp_path / 'none.jsonl'}", "found none"
    )


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("", ["at least 10 pairs", "got 0"]),
        ('{"input": "a", "target": "b"}\n', ["at least 10 pairs", "got 1"]),
        ('{"text": "a", "summary": "b"}\n', ["'input'", "line 1", "text, summary"]),
        ("not json\n", ["JSON in line 1"]),
    ],
    ids=["empty", "one pair", "field names", "no json"],
)
def test_bad_data_files_are_told(train, tmp_path, text, patterns):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    told(train(path=path), str(path), *patterns)


def test_unsafe_model_folders_are_refused(train, model_folders, tmp_path):
    pickled = shutil.copytree(model_folders["opt"], tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    told(
        train(folder=pickled),
        str(pickled),
        "pickle checkpoint pytorch_model.bin",
        "save_pretrained",
    )
    code = shutil.copytree(model_folders["opt"], tmp_path / "code")
    config = json.loads((code / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (code / "config.json").write_text(json.dumps(config))
    told(train(folder=code), str(code), "auto_map", "trust_remote_code")


def test_tasks_that_were_not_fetched_are_told_with_the_command(train, tmp_path):
    dropped = ("dataset", "dataset.path", "dataset.max_evaluation")
    done = train("dataset=wordnet", f"paths.cache_dir={tmp_path}", dropped=dropped)
    told(done, r"lensllm fetch dataset=wordnet")


@pytest.mark.parametrize(
    ("overrides", "patterns"),
    [
        (["selector=oracle"], ["oracle", "sub_tuning"]),
        (["selector.k=0"], ["selector", "0"]),
        (["budget.fraction=1e-9"], ["budget of at least", "raise the budget"]),
        (["budget=soon", "dataset.path=/nowhere"], ["budget such as", "got 'soon'"]),
        (["budget.fraction=-1"], [r"budget\.fraction > 0, got -1"]),
        (["budget.fraction=lots"], ["lots"]),
        (["budget.fraction=null"], [r"budget\.flops or budget\.fraction"]),
        (["budget.flops=-3"], ["> 0, got -3"]),
        (["budget=10%", "budget.fraction=0.5"], ["got budget.limit=10% and budget.fraction=0.5"]),
        (["budget=10%", "budget.flops=1e9"], ["got budget.limit=10% and budget.flops=1"]),
        (["store=st1"], [r"got 'store': did you mean paths\.store_dir\?"]),
        (["batch_size=8"], [r"did you mean training\.batch_size\?"]),
        (["+budget.share=0.1"], ["share"]),
        (["budget.fracton=0.1"], [r"did you mean budget\.fraction\?"]),
        (["budget.fraction=inf"], [r"finite number as budget\.fraction, got inf"]),
        (["budget=null"], ["budget, got null"]),
        (["runner.checkpoint_minutes=inf"], [r"runner\.checkpoint_minutes, got inf", "null"]),
        (["candidates.models=gpt2-48x2"], ["list as candidates.models, got 'gpt2-48x2'"]),
        (["candidates.models=[5]"], ["a known model, got '5'"]),
        *(
            ([f"{group}=null"], [f"choice of {group}, got null: add {group}="])
            for group in ("selector", "dataset", "optimizer", "scheduler", "training", "trainer")
        ),
        *(
            ([f"{group}=null"], [f"choice of {group}, got null: add {group}="])
            for group in ("runner", "executor", "paths")
        ),
        (["executor=pool", "executor.gpus=[]"], [r"executor\.gpus", "null"]),
        (["executor=pool", "executor.n_workers=1000"], [r"executor\.n_workers <= ", "got 1000"]),
        (["n_samples_full=5000"], ["between 1 and 260", "got 5000"]),
        (["candidates.models=[]"], [r"candidates\.models", "none"]),
        (["candidates.models=[gpt2-48x2,gpt2-48x2]"], ["'gpt2-48x2' twice"]),
        (["candidates.models=[gpt2-48x2,nobody/none]"], ["'nobody/none'"]),
        (["runner=replay"], ["replay.models=.* with runner=replay, got candidates=custom"]),
    ],
    ids=lambda value: value[0] if value and "=" in value[0] else "",
)
def test_bad_settings_of_a_selection(select, overrides, patterns):
    told(select(*overrides), *patterns)


def test_where_all_candidates_diverge_there_is_no_answer(select):
    done = select("optimizer.lr=1e9", "training.max_epochs=1", "budget.fraction=0.6")
    told(
        done,
        r"^error: Expected a candidate .* got none: .*diverged at D = \d+: lower optimizer\.lr",
    )
    assert "report: " in done.out
    assert "this answer" not in done.out


def test_curves_that_are_nowhere_are_told(run_main, tmp_path):
    from scripts.select_model import main

    words = ("runner=replay", "benchmark=csv", "benchmark.path=/nowhere")
    told(run_main(main, *words, f"paths.output_dir={tmp_path}"), "/nowhere")


def test_fetching_what_is_no_task_is_told(run_main, tmp_path):
    from scripts.fetch_dataset import main

    for name in ("docstrings", "jsonl"):
        done = run_main(
            main, f"dataset={name}", f"paths.cache_dir={tmp_path}", f"paths.output_dir={tmp_path}"
        )
        told(done, "wiki, debian, sections, wordnet, senses", f"got '{name}'")


def test_pre_training_unknown_names_is_told(run_main, tmp_path):
    from scripts.pretrain_zoo import main

    done = run_main(main, "names=[gpt9]", f"paths.output_dir={tmp_path}")
    told(done, "gpt2-48x2", "got 'gpt9'")


def test_other_errors_end_with_code_1(train, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no\npower")

    monkeypatch.setattr("lensllm.execution.finetune.run_trial", fail)
    told(train(), "^error: RuntimeError: no power$", code=1)


def test_debugging_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("LENSLLM_DEBUG", "1")
    with pytest.raises(SystemExit) as stop:
        fail(ValueError("Expected\n  more"))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "error: Expected more"
    assert "ValueError: Expected" in lines[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), 2),
        (TypeError("x"), 2),
        (FileNotFoundError("x"), 2),
        (ConfigKeyError("x"), 2),
        (InstantiationException("x"), 2),
        (RuntimeError("x"), 1),
        (PermissionError("x"), 1),
        (KeyError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error, code, capsys):
    with pytest.raises(SystemExit) as stop:
        fail(error)
    assert stop.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_cause_that_hydra_wrapped_is_told_with_its_key():
    error = InstantiationException("Error in call\nfull_key: optimizer")
    error.__cause__ = ValueError("Expected `lr` > 0,\n got -1")
    assert one_line(error) == "optimizer: Expected `lr` > 0, got -1"


def test_a_package_that_is_not_installed_is_told_with_its_extra(capsys, monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    lines = [f'{line}; extra == "{name}"' for name, given in extras for line in given]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: project["dependencies"] + lines)
    error = InstantiationException("Error locating target 'torch.optim.AdamW'")
    error.__cause__ = ImportError("Error loading 'torch.optim.AdamW'")
    error.__cause__.__cause__ = ModuleNotFoundError("No module named 'torch'", name="torch.optim")
    with pytest.raises(SystemExit) as stop:
        fail(error)
    assert stop.value.code == 2
    words = "Expected the package torch, found none: pip install 'lensllm[finetune]'"
    assert capsys.readouterr().err == f"error: {words}\n"
    assert missing_package(ModuleNotFoundError(name="pytorch_lightning.cli")).endswith("finetune]'")
    assert missing_package(ModuleNotFoundError(name="colours")) is None
    assert missing_package(ValueError("x")) is None


@pytest.mark.slow
def test_as_a_command(model_folders, jsonl_300, tmp_path):
    """The same from a shell: a trial, a bad value, a bad value within a sweep."""
    common = [
        "model=source",
        f"model.source={model_folders['gpt2']}",
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        "dataset.max_evaluation=20",
        "logger=none",
        "trainer.enable_progress_bar=false",
        f"paths.output_dir={tmp_path}",
    ]
    environment = {**os.environ, "HYDRA_FULL_ERROR": "0"}
    environment.pop("LENSLLM_DEBUG", None)

    def run(*overrides):
        return subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *overrides, *common],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = run("n_samples=8", "training.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert "D = 8, seed 0: completed" in done.stdout
    done = run("-m", "n_samples=0,9999")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: Expected `n_samples` <= 260")
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("trials/*.json"))) == 2  # what had finished is kept


def test_how_to_upload_runs_is_said_once_also_after_a_sweep(monkeypatch, capsys):
    from lensllm.finetune import loggers

    monkeypatch.setattr(loggers, "sync_words", lambda: "how to upload")
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stdout)])
    monkeypatch.setattr(logging.root, "level", logging.INFO)  # as Hydra leaves it after a sweep
    _say_how_to_sync()
    assert capsys.readouterr().out == "how to upload\n"
