"""What a tracker's run holds in the end, read back from its files."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.finetune.loggers import CSVTrialLogger, WandbTrialLogger

TRIAL = Trial("tiny", "words", 200, 3, {"optimizer": {"lr": 0.25}})
RESULT = TrialResult(TRIAL, "completed", test_loss=2.5, test_loss_per_byte=0.75, n_steps=7)


def read_wandb(folder: Path) -> tuple[dict, bytes]:
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [
        str(Path(sys.executable).with_name("wandb")),
        "leet",
        "inspect",
        "--json",
        "--summary",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout), path.read_bytes()


def test_an_offline_wandb_run_has_config_metrics_result_and_group(tmp_path: Path) -> None:
    logger = WandbTrialLogger(
        "tiny-D200",
        {"n_samples": 200, "settings": TRIAL.settings},
        group="sweep-7",
        save_dir=tmp_path,
    )
    logger.keep_best("exact_match", "higher")
    for step, score in ((5, 0.5), (10, 0.25)):
        logger.log_metrics({"exact_match": score}, step=step)
    for step, loss in ((5, 3.125), (10, 3.0), (15, 3.5)):
        logger.log_metrics({"val_loss": loss}, step=step)
    logger.log_result(RESULT)
    logger.finish()
    run, raw = read_wandb(tmp_path)
    assert run["name"] == "tiny-D200"
    assert run["config"]["settings"]["optimizer"]["lr"] == 0.25
    assert run["summary"]["val_loss"] == {"min": 3.0}
    assert run["summary"]["exact_match"] == {"max": 0.5}
    assert run["summary"]["result/test_loss"] == 2.5
    assert run["summary"]["result/test_loss_per_byte"] == 0.75
    assert b"sweep-7" in raw


def test_an_unknown_wandb_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'maybe'"):
        WandbTrialLogger("x", {}, mode="maybe", save_dir=tmp_path)


def test_a_disabled_wandb_run_leaves_no_run_behind(tmp_path: Path) -> None:
    logger = WandbTrialLogger("x", {}, mode="disabled", save_dir=tmp_path)
    logger.log_result(RESULT)
    logger.finish()
    assert not list(tmp_path.glob("wandb/offline-run-*"))


def test_a_csv_run_has_metrics_result_and_settings(tmp_path: Path) -> None:
    logger = CSVTrialLogger("tiny", {"n_samples": 200}, group="sweep", save_dir=tmp_path)
    logger.log_metrics({"val_loss": 3.125}, step=5)
    logger.log_result(RESULT)
    logger.finish()
    metrics = pd.read_csv(tmp_path / "sweep" / "tiny" / "metrics.csv")
    assert metrics["result/test_loss"].dropna().tolist() == [2.5]
    assert metrics["val_loss"].dropna().tolist() == [3.125]
    assert "n_samples: 200" in (tmp_path / "sweep" / "tiny" / "hparams.yaml").read_text()


def test_names_of_runs_and_groups_stay_in_their_folder(tmp_path: Path) -> None:
    logger = CSVTrialLogger("../../x", {}, group="../../g", save_dir=tmp_path / "csv")
    logger.log_result(RESULT)
    logger.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["csv"]
    (path,) = tmp_path.glob("csv/*/*/metrics.csv")
    assert "_.._x" in path.parent.name


def test_secrets_are_not_in_a_runs_config(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LENSLLM_TEST_TOKEN", "hf_abcdefgh")
    logger = CSVTrialLogger("x", {"optimizer": {"key": "hf_abcdefgh"}}, save_dir=tmp_path)
    logger.finish()
    text = (tmp_path / "runs" / "x" / "hparams.yaml").read_text()
    assert "hf_abcdefgh" not in text
    assert "LENSLLM_TEST_TOKEN" in text


def broken_init(**_: object) -> None:
    raise TimeoutError("no answer")


def test_a_server_that_does_not_answer_is_told_before_the_first_trial(tmp_path, monkeypatch):
    monkeypatch.setattr("wandb.init", broken_init)
    monkeypatch.setattr(WandbTrialLogger, "_has_begun", False)
    with pytest.raises(ValueError, match=r"within 20 s.*no answer.*logger\.wandb\.mode=offline"):
        WandbTrialLogger("x", {}, mode="online", save_dir=tmp_path)


def test_a_tracker_that_fails_later_is_told_once_and_harms_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("wandb.init", broken_init)
    monkeypatch.setattr(WandbTrialLogger, "_has_begun", True)
    logger = WandbTrialLogger("x", {}, mode="online", save_dir=tmp_path)
    assert logger.experiment is not None
    logger.log_metrics({"val_loss": 1.0}, step=1)
    logger.log_hyperparams({"a": 1})
    logger.log_result(RESULT)
    logger.finalize("success")
    logger.finish()
    (line,) = [r.getMessage() for r in caplog.records if "W&B" in r.getMessage()]
    assert "no answer" in line


def test_a_run_that_breaks_on_the_way_harms_nothing(tmp_path, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise ConnectionError("gone")

    logger = WandbTrialLogger("x", {}, mode="disabled", save_dir=tmp_path)
    monkeypatch.setattr(logger, "_experiment", Broken())
    logger.log_result(RESULT)
    logger.log_metrics({"a": 1.0})
    logger.finish()
