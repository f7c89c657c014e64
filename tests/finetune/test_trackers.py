"""Several trackers at once, those of extras, and what is told when one is missing."""

import sqlite3
from functools import partial

import pandas as pd
import pytest

from lensllm.core.trials import Trial, TrialResult
from lensllm.finetune.loggers import CSVTrialLogger
from lensllm.finetune.other_loggers import MLflowTrialLogger, TensorBoardTrialLogger
from lensllm.finetune.trackers import TrackerError, Trackers, as_makers

RESULT = TrialResult(Trial("tiny", "words", 200), "completed", test_loss=2.5, n_steps=7)
CONFIG = {"n_samples": 200, "settings": {"lr": 0.25}}


def recorded(makers, **options):
    run = Trackers.begin(makers, "tiny-D200", CONFIG, tags=("words", "gpt2"), **options)
    run.log_metrics({"val_loss": 3.125, "nothing": float("nan")}, 5)
    run.log_frame("leaderboard", pd.DataFrame({"model": ["<b>a"], "loss": [1.5]}))
    run.log_result(RESULT)
    run.finish()


def test_a_tracker_that_fails_costs_the_others_nothing(tmp_path, caplog):
    class Broken:
        def __init__(self, *_, **__):
            pass

        def __getattr__(self, name):
            raise ConnectionError("gone")

    recorded({"broken": Broken, "csv": partial(CSVTrialLogger, save_dir=tmp_path)})
    metrics = pd.read_csv(tmp_path / "runs" / "tiny-D200" / "metrics.csv")
    assert metrics["result/test_loss"].dropna().tolist() == [2.5]
    assert "Broken did not take a record: ConnectionError: gone" in caplog.text


def test_a_tracker_that_does_not_start_is_an_error_and_the_others_are_closed(tmp_path):
    closed = []

    class First:
        def __init__(self, *_, **__):
            pass

        def finish(self, succeeded):
            closed.append(succeeded)

    def second(*_, **__):
        raise OSError("no place")

    with pytest.raises(TrackerError, match=r"logger\.second to start, got: OSError: no place"):
        Trackers.begin({"first": First, "second": second}, "x", {})
    assert closed == [False]


def test_what_is_no_logger_is_refused():
    assert as_makers(None) == as_makers({}) == {}
    with pytest.raises(ValueError, match=r"_partial_: true` as logger\.csv, got 3"):
        as_makers({"csv": 3})


def test_tensorboard_has_metrics_result_settings_and_tables(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorded({"tb": partial(TensorBoardTrialLogger, save_dir=tmp_path, group="../sweep 1")})
    (folder,) = tmp_path.glob("*sweep_1*/tiny-D200")
    events = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [(5, 3.125)]
    assert events.Scalars("result/test_loss")[0].value == 2.5
    (text,) = events.Tensors("leaderboard/text_summary")
    assert b"<b>a" in text.tensor_proto.string_val[0]
    assert "n_samples: 200" in (folder / "hparams.yaml").read_text()


def test_a_tensorboard_run_is_one_file_though_lightning_ends_it_after_each_loop(tmp_path):
    pytest.importorskip("tensorboard")
    run = TensorBoardTrialLogger("tiny", {"n_samples": 200}, save_dir=tmp_path)
    for step in (1, 2, 3):
        run.log_metrics({"val_loss": 1.0 / step}, step)
        run.finalize("success")
    run.finish()
    assert len(list(tmp_path.rglob("events.out.*"))) == 1


def test_mlflow_has_metrics_result_settings_and_tags(tmp_path):
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    make = partial(MLflowTrialLogger, tracking_uri=uri, group="sweep", artifact_dir=tmp_path / "a")
    recorded({"mlflow": make})
    base = sqlite3.connect(tmp_path / "new" / "mlflow.db")
    rows = base.execute("select key, value, step from metrics").fetchall()
    assert {("val_loss", 3.125, 5), ("result/test_loss", 2.5, 7)} <= set(rows)
    assert ("settings/lr", "0.25") in set(base.execute("select key, value from params"))
    tags = dict(base.execute("select key, value from tags"))
    assert (tags["group"], tags["job_type"], tags["gpt2"]) == ("sweep", "trial", "true")
    assert base.execute("select name, status from runs").fetchall() == [("tiny-D200", "FINISHED")]
    (table,) = (tmp_path / "a").rglob("leaderboard.csv")
    assert "<b>a" in table.read_text()


@pytest.mark.parametrize(
    ("maker", "package"), [(TensorBoardTrialLogger, "tensorboard"), (MLflowTrialLogger, "mlflow")]
)
def test_a_missing_package_is_told_with_its_extra(maker, package, monkeypatch):
    from lensllm.commands.entry import missing_package

    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: [f'{package}>=2; extra == "{package}"']
    )
    with pytest.raises(TrackerError) as raised:
        Trackers.begin({"x": maker}, "x", {})
    assert f"pip install 'lensllm[{package}]'" in missing_package(raised.value)
