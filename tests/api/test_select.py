import json

import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

import lensllm
from lensllm.api.data_files import data_path
from lensllm.data import load_file
from lensllm.data.pairs import make_text_data
from lensllm.execution import finetune
from tests.conftest import make_pairs

PAIRS = make_pairs(300, seed=1)
ROWS = [{"input": source, "target": target} for source, target in PAIRS]
QUICK = {"epochs": 1, "n_evaluations": 1, "batch_size": 32}


@pytest.fixture
def select(tmp_path, model_folders):
    """`lensllm.select` for two tiny models, with all folders in `tmp_path`."""

    def call(data=ROWS, **options):
        models = [model_folders["gpt2"], str(model_folders["opt"])]
        folders = {"output": tmp_path / "out", "store": tmp_path / "trials"}
        given = {"budget": "40%", "sizes": [12, 25, 50], **QUICK, **folders, **options}
        return lensllm.select(data, models, **given)

    return call


def frames():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return [ROWS, PAIRS, pd.DataFrame(ROWS), datasets.Dataset.from_list(ROWS)]


def test_data_of_every_kind_are_the_same_pairs(tmp_path):
    prints = {load_file(data_path(data, tmp_path)).fingerprint for data in frames()}
    assert len(prints) == 1
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert data_path(path, tmp_path) == str(path)  # which is not copied
    assert {load_file(path).fingerprint} == prints


def test_splits_that_are_given_are_kept(tmp_path):
    datasets = pytest.importorskip("datasets")
    parts = {"train": ROWS[:200], "validation": ROWS[200:250], "test": ROWS[250:]}
    splits = {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
    found = load_file(data_path(datasets.DatasetDict(splits), tmp_path))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [200, 50, 50]
    assert sorted(found.test) == sorted(PAIRS[250:])
    given = data_path(
        ROWS[:200], tmp_path, validation=PAIRS[200:250], test=pd.DataFrame(ROWS[250:])
    )
    assert load_file(given).fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "Expected a path, .* as data, got int"),
        ({"input": "a"}, "as data, got dict"),
        ([("a", "b", "c")], r"an \(input, target\) pair in row 1, got \('a', 'b', 'c'\)"),
        (["a"], "pair in row 1, got 'a'"),
    ],
)
def test_other_data_are_refused(data, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        data_path(data, tmp_path)


def test_from_rows_to_the_model(select, tmp_path, capsys):
    result = select(price_per_hour="2 EUR", max_evaluation=20)
    assert capsys.readouterr() == ("", "")
    assert not GlobalHydra.instance().is_initialized()
    assert result.best == result.leaderboard()["candidate"].iloc[0]
    assert isinstance(result.plot(), Figure)
    assert result.best in result._repr_html_()
    assert "EUR" in dict(result.answer.notes)["Spent"]
    record = json.loads((result.folder / "selection.json").read_text())
    assert record["cost_seconds"] == pytest.approx(result.curves["seconds"].sum())
    assert record["cost_money"] == pytest.approx(2 * record["cost_seconds"] / 3600)
    assert record["cost_flops"] == pytest.approx(result.curves["flops"].sum())

    again = lensllm.load_result(result.folder)
    for name in ("ranking", "events", "verdict", "warnings", "cost_seconds", "measure"):
        assert getattr(again.selection, name) == getattr(result.selection, name)
    assert again.answer == result.answer
    pd.testing.assert_frame_equal(again.leaderboard(), result.leaderboard())
    model = again.finetune(tmp_path / "tuned")
    assert {"config.json", "model.safetensors", "README.md"} <= {p.name for p in model.iterdir()}
    copied = result.save(tmp_path / "copy")
    assert lensllm.load_result(copied).best == result.best


def test_a_data_set_in_memory_and_objects_of_ones_own(select, tmp_path):
    data = make_text_data("mine", PAIRS[:200], PAIRS[200:220], PAIRS[220:250], 48, 24)
    executor = lensllm.Executor()
    result = select(data, selector=lensllm.SubTuning(), executor=executor)
    assert result.selection.selector == "sub_tuning"
    assert result.selection.dataset == "mine"
    assert result.finetune(tmp_path / "tuned").is_dir()
    with pytest.raises(ValueError, match="whose data are on disk, got one on a TextData"):
        lensllm.load_result(result.folder).finetune(tmp_path / "other")


def test_recorded_curves_need_no_torch():
    code = (
        "import sys, tempfile, lensllm; "
        "r = lensllm.select(runner='replay', replay={'dataset': 'docstrings'}, "
        "output=tempfile.mkdtemp()); assert r.best == 'llama-64x3', r.best; "
        "assert 'torch' not in sys.modules"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batchsize": 8}, TypeError, "got 'batchsize': did you mean 'batch_size'"),
        ({"training": {"epochs": 8}}, TypeError, "'training.epochs'"),
        ({"data": "names", "test_data": ROWS}, TypeError, "that has its splits"),
        ({"selector": "adaptve"}, ValueError, "Expected selector among adaptive.* got 'adaptve'"),
        ({"finetune": 3}, TypeError, "or a dict of settings, as finetune, got 3"),
        ({"epochs": 0}, ValueError, "`max_epochs` > 0, got 0"),
        ({"seed": -1}, ValueError, "seed >= 0, got -1"),
        ({"budget": "2 weeks"}, ValueError, "whose unit is 'weeks'"),
        ({"budget": "5 USD"}, ValueError, "Expected price_per_hour with a budget in USD"),
        ({"trial_time_limit": "7"}, ValueError, "trial_time_limit with a unit of time"),
    ],
)
def test_options_that_cannot_be_are_refused(select, options, error, message):
    with pytest.raises(error, match=message):
        select(**options)


def test_an_interrupted_campaign_goes_on_and_its_time_counts(select, tmp_path, monkeypatch):
    run_trial, runs = finetune.run_trial, []

    def interrupted(*arguments, **options):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(run_trial(*arguments, **options))
        return runs[-1]

    monkeypatch.setattr(finetune, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        select(budget="10min", max_evaluation=20)
    monkeypatch.setattr(finetune, "run_trial", run_trial)
    result = select(budget="10min", max_evaluation=20)
    points = set(zip(result.curves["model"], result.curves["n_samples"], strict=True))
    assert {(run.trial.model, run.trial.n_samples) for run in runs} < points
    before = sum(run.seconds for run in runs)
    assert before < result.selection.cost_seconds < 600
    assert result.selection.cost_flops == pytest.approx(result.curves["flops"].sum())
    known = [event for event in result.selection.events if event.kind == "known"]
    assert len(known) == 2


def test_the_report_is_one_page(tmp_path):
    pytest.importorskip("lensllm.reports.html_report")
    result = lensllm.select(
        runner="replay", replay={"dataset": "docstrings"}, output=tmp_path / "out"
    )
    page = result.report(tmp_path / "report.html")
    assert page == tmp_path / "report.html"
    assert result.best in page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Expected a campaign by fine-tuning"):
        result.finetune(tmp_path / "model")
