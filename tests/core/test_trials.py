import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import stat
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from lensllm.core.curves import REQUIRED_COLUMNS, check_curves, read_curves
from lensllm.core.trials import Trial, TrialResult, TrialStore, digest_of, results_table
from lensllm.studies.soak.disturb import small_disk
from lensllm.system.atomic import StorageError
from lensllm.system.claims import Claims

TRIAL = Trial("gpt2", "toy", 200, 3, {"optimizer": {"name": "AdamW", "lr": 1e-3}, "data": "ab"})
RESULT = TrialResult(
    TRIAL,
    "completed",
    test_loss=3.5,
    test_loss_per_byte=0.9,
    validation_loss=3.25,
    n_params=1000,
    n_tokens=4321,
    n_steps=39,
    best_step=35,
    flops=1e9,
    train_flops=9e8,
    seconds=1.5,
    peak_memory_bytes=10**8,
    family="gpt2",
    trace=((7, 4.0), (14, 3.25)),
    versions={"torch": "2"},
    finished_at="2026-01-01T00:00:00+00:00",
)


def test_key_is_the_hash_of_the_canonical_content():
    text = (
        '{"dataset":"toy","model":"gpt2","n_samples":200,"seed":3,'
        '"settings":{"data":"ab","optimizer":{"lr":0.001,"name":"AdamW"}}}'
    )
    assert TRIAL.key == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_key_ignores_the_order_of_settings_and_lists_against_tuples():
    turned = {"data": "ab", "optimizer": {"lr": 1e-3, "name": "AdamW"}}
    assert replace(TRIAL, settings=turned).key == TRIAL.key
    one, other = (Trial("m", "d", 1, 0, {"betas": kind((0.9, 0.99))}) for kind in (list, tuple))
    assert one.key == other.key


@pytest.mark.parametrize(
    "change",
    [
        {"model": "opt"},
        {"dataset": "other"},
        {"n_samples": 400},
        {"seed": 4},
        {"settings": {}},
        {"settings": {"optimizer": {"name": "AdamW", "lr": 2e-3}, "data": "ab"}},
        {"settings": {"optimizer": {"name": "AdamW", "lr": 1e-3}, "data": "ac"}},
    ],
)
def test_key_changes_with_every_field(change):
    assert replace(TRIAL, **change).key != TRIAL.key


def test_trials_with_equal_content_are_one_dictionary_key():
    assert len({TRIAL: 1, replace(TRIAL): 2}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_samples": -5}, r"`n_samples` to be a whole number >= 0, got -5"),
        ({"n_samples": 2.5}, r"`n_samples` to be a whole number >= 0, got 2\.5"),
        ({"n_samples": True}, r"`n_samples` to be a whole number >= 0, got True"),
        ({"seed": -1}, r"`seed` to be a whole number >= 0, got -1"),
        ({"model": ""}, r"`model` to name a model, got an empty string"),
        ({"dataset": ""}, r"`dataset` to name a dataset, got an empty string"),
    ],
)
def test_bad_trials_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TRIAL, **change)


def test_settings_that_json_cannot_hold_are_refused_before_anything_is_stored(tmp_path):
    trial = replace(TRIAL, settings={"lr": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        TrialStore(tmp_path).add(replace(RESULT, trial=trial))
    assert list(tmp_path.iterdir()) == []


def test_store_gives_back_what_was_added(tmp_path):
    store = TrialStore(tmp_path / "new" / "folder")
    assert store.get(TRIAL) is None
    assert list(store.results()) == []
    store.add(RESULT)
    assert store.get(TRIAL) == RESULT
    assert list(TrialStore(store.folder).results()) == [RESULT]
    store.add(replace(RESULT, test_loss=3.0))
    assert [result.test_loss for result in store.results()] == [3.0]


def test_not_a_number_survives_the_round_trip_as_null(tmp_path):
    result = replace(RESULT, status="diverged", test_loss=math.nan, trace=((1, 2.0), (2, math.inf)))
    store = TrialStore(tmp_path)
    store.add(result)
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["test_loss"] is None
    assert record["trace"] == [[1, 2.0], [2, None]]
    back = store.get(TRIAL)
    assert back.status == "diverged"
    assert math.isnan(back.test_loss)
    assert back.trace[0] == (1, 2.0)
    assert math.isnan(back.trace[1][1])


def test_every_field_of_a_result_is_written(tmp_path):
    store = TrialStore(tmp_path)
    store.add(RESULT)
    record = json.loads((tmp_path / f"{TRIAL.key}.json").read_text())
    assert set(record) == {item.name for item in fields(TrialResult)} | {"format", "key", "digest"}
    assert record["trial"]["settings"] == TRIAL.settings


def test_a_failed_write_leaves_nothing_and_keeps_the_old_result(tmp_path, monkeypatch):
    store = TrialStore(tmp_path)
    store.add(RESULT)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match=f"write {tmp_path}.*disk full.*paths.store_dir"):
        store.add(replace(RESULT, test_loss=1.0))
    assert [path.name for path in tmp_path.iterdir()] == [f"{TRIAL.key}.json"]
    assert store.get(TRIAL) == RESULT


def _die_before_rename(folder):
    os.replace = lambda *_: os._exit(9)
    TrialStore(folder).add(RESULT)


def fill(path):
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)) == 4096:
            pass


def test_a_full_disk_has_room_for_the_result_of_a_trial_that_runs(tmp_path):
    with small_disk(tmp_path / "disk") as is_mounted:
        if not is_mounted:
            pytest.skip("needs the right to mount a file system")
        store = TrialStore(tmp_path / "disk" / "trials")
        with store.claims.hold(TRIAL.key):
            fill(tmp_path / "disk" / "other")
            with pytest.raises(StorageError, match="free some space"):
                store.add(replace(RESULT, trial=replace(TRIAL, seed=4)))  # which nobody runs
            with pytest.raises(StorageError, match="free some"), store.claims.hold("another"):
                pytest.fail("Expected that no trial starts whose result would have no room")
            assert not Claims(store.claims.folder).give_room("another")
            store.add(RESULT)
            assert store.claims.owner(TRIAL.key)["pid"] == os.getpid()
        assert store.get(TRIAL) == RESULT


def test_a_process_killed_between_write_and_rename_leaves_no_result(tmp_path, caplog):
    process = multiprocessing.get_context("fork").Process(
        target=_die_before_rename, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    (left,) = tmp_path.iterdir()
    assert json.loads(left.read_text())["test_loss"] == 3.5  # whole, but never renamed
    store = TrialStore(tmp_path)
    assert store.get(TRIAL) is None
    assert list(store.results()) == []
    assert caplog.records == []
    store.add(RESULT)
    assert store.get(TRIAL) == RESULT


def _valid(**changes):
    """A record with other values, and the digest of those."""
    record = {**RESULT.to_json(), **changes}
    del record["digest"]
    return json.dumps({**record, "digest": digest_of(record, 64)})


def _edited(**changes):
    """A record that was changed after it was written."""
    return json.dumps({**RESULT.to_json(), **changes})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (f"{TRIAL.key}.json", _valid()[:-20], "string"),
        (f"{TRIAL.key}.json", "", "Expecting value"),
        (f"{TRIAL.key}.json", "[1, 2]", "attribute"),
        ("notes.txt", "buy milk", "Expecting value"),
        ("other.json", '{"a": 1}', "format 2"),
        ("renamed.json", _valid(), f"Expected the name {TRIAL.key}.json"),
        (f"{TRIAL.key}.json", _valid(key="0" * 16), f"key {TRIAL.key} of its content"),
        (f"{TRIAL.key}.json", _valid(format=99), "format 2"),
        (f"{TRIAL.key}.json", _valid(trial={"model": "x"}), "missing"),
        (f"{TRIAL.key}.json", _valid(test_loss="low"), "'low'"),
        (f"{TRIAL.key}.json", _valid(status="half"), "'half'"),
        (f"{TRIAL.key}.json", _valid(trace=3), "int"),
        (f"{TRIAL.key}.json", "[" * 100_000, "recursion"),
        (f"{TRIAL.key}.json", _edited(test_loss=0.001), "changed after it was written"),
        (f"{TRIAL.key}.json", _edited(flops=-1e30), "changed after it was written"),
        (f"{TRIAL.key}.json", _edited(seconds=1.25), "changed after it was written"),
        (f"{TRIAL.key}.json", _edited(digest=""), "changed after it was written"),
        (f"{TRIAL.key}.json", _valid(test_loss=-5), ">= 0 in 'test_loss', got -5"),
        (f"{TRIAL.key}.json", _valid(test_loss=1e308), "at most 1e+06 nats"),
        (f"{TRIAL.key}.json", _valid(test_loss=None), "at most 1e+06 nats"),
        (f"{TRIAL.key}.json", _valid(flops=-1e30), ">= 0 in 'flops', got -1e+30"),
        (f"{TRIAL.key}.json", _valid(n_params=-1), ">= 0 in 'n_params', got -1"),
        (f"{TRIAL.key}.json", _valid(seconds=-0.5), ">= 0 in 'seconds', got -0.5"),
        (f"{TRIAL.key}.json", _valid(status="failed"), "'failed'"),
    ],
)
def test_a_file_that_is_no_trial_is_named_once_and_left_alone(tmp_path, caplog, name, text, reason):
    good = Trial("good", "toy", 0)
    store = TrialStore(tmp_path)
    store.add(replace(RESULT, trial=good))
    (tmp_path / name).write_text(text, encoding="utf-8")
    for _ in range(2):
        assert [result.trial for result in store.results()] == [good]
        assert store.get(TRIAL) is None
    (record,) = caplog.records
    assert str(tmp_path / name) in record.getMessage()
    assert reason in record.getMessage()
    assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_no_trial(tmp_path, caplog):
    (tmp_path / f"{TRIAL.key}.json").write_bytes(b"\xff\xfe\x00\x81")
    assert TrialStore(tmp_path).get(TRIAL) is None
    assert f"{TRIAL.key}.json" in caplog.text


def test_a_file_is_refused_as_a_store(tmp_path):
    path = tmp_path / "trials"
    path.write_text("")
    with pytest.raises(ValueError, match=f"got the file {path}"):
        TrialStore(path)


def test_results_can_be_read_by_whoever_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        TrialStore(tmp_path).add(RESULT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / f"{TRIAL.key}.json").stat().st_mode) == 0o644


def _write_many(folder, offset):
    store = TrialStore(folder)
    for i in range(60):
        store.add(replace(RESULT, trial=Trial("m", "d", i), test_loss=1.0 + offset))
        store.add(replace(RESULT, trial=Trial(f"only{offset}", "d", i), test_loss=1.0 + offset))


def test_two_processes_write_to_one_store_at_once(tmp_path, caplog):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(tmp_path, i)) for i in (0, 1)]
    for process in processes:
        process.start()
    reader = TrialStore(tmp_path)
    while any(process.is_alive() for process in processes):
        assert all(result.test_loss in (1.0, 2.0) for result in reader.results())
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list(reader.results())) == 180
    assert caplog.records == []
    assert [path for path in Path(tmp_path).iterdir() if path.name.startswith(".")] == []


def test_results_table_has_a_row_a_trial_in_a_fixed_order():
    results = [
        replace(RESULT, trial=Trial(model, dataset, n, seed), test_loss=1.0 + n + seed)
        for model in ("b", "a")
        for dataset in ("y", "x")
        for n in (400, 0)
        for seed in (1, 0)
    ]
    table = results_table(results)
    rows = list(table[["dataset", "model", "seed", "n_samples"]].itertuples(index=False))
    assert [tuple(row) for row in rows] == sorted(tuple(row) for row in rows)
    assert table.equals(results_table(results[::-1]))
    assert (table["test_loss"] == 1 + table["n_samples"] + table["seed"]).all()
    assert set(REQUIRED_COLUMNS) <= set(table.columns)
    assert not {"trial", "trace", "versions"} & set(table.columns)
    assert len(check_curves(table)) == 16


def test_an_empty_store_gives_an_empty_table_with_all_columns(tmp_path):
    table = TrialStore(tmp_path / "none").curves()
    assert len(table) == 0
    assert {*REQUIRED_COLUMNS, "flops", "status", "key"} <= set(table.columns)
    numbers = results_table([RESULT]).select_dtypes("number")
    assert table[numbers.columns].dtypes.equals(numbers.dtypes)
    assert not np.isfinite(table["test_loss"]).any()


def test_trials_of_two_recipes_are_no_curve(tmp_path):
    store = TrialStore(tmp_path)
    for lr in (1e-3, 3e-4):
        store.add(replace(RESULT, trial=replace(TRIAL, settings={"optimizer": {"lr": lr}})))
    with pytest.raises(ValueError, match=r"got several of 'gpt2' on 'toy' .* = 200 .*store_dir"):
        read_curves(tmp_path)


def test_curves_of_a_store_read_without_its_diverged_trials(tmp_path):
    store = TrialStore(tmp_path)
    store.add(RESULT)
    bad = replace(RESULT, trial=replace(TRIAL, n_samples=400), status="diverged")
    store.add(replace(bad, test_loss=math.nan))
    assert len(store.curves()) == 2
    assert read_curves(tmp_path)["n_samples"].tolist() == [200]


def test_records_of_the_format_without_digests_are_read(tmp_path):
    record = {**RESULT.to_json(), "format": 1}
    del record["digest"], record["reason"]
    (tmp_path / f"{TRIAL.key}.json").write_text(json.dumps(record))
    assert TrialStore(tmp_path).get(TRIAL) == RESULT


def test_a_changed_record_is_set_aside_when_its_trial_has_run_again(tmp_path, caplog):
    store = TrialStore(tmp_path)
    path = tmp_path / f"{TRIAL.key}.json"
    path.write_text(_edited(test_loss=0.001))
    assert store.get(TRIAL) is None
    store.add(RESULT)
    assert store.get(TRIAL) == RESULT
    assert json.loads((tmp_path / f"{path.name}.set-aside").read_text())["test_loss"] == 0.001
    caplog.clear()
    assert list(TrialStore(tmp_path).results()) == [RESULT]
    assert caplog.records == []


def test_a_failed_trial_is_never_stored(tmp_path):
    failed = TrialResult.failure(TRIAL, "no memory")
    with pytest.raises(ValueError, match=r"finished trial to store.*no memory"):
        TrialStore(tmp_path).add(failed)
    assert list(tmp_path.iterdir()) == []
    assert results_table([failed])[["status", "reason"]].values.tolist() == [
        ["failed", "no memory"]
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_store_is_found_out_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=f"write {tmp_path}.*permissions"):
        TrialStore(tmp_path).check_writable()


def test_a_folder_that_cannot_be_made_is_found_out_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Expected to write .*/file/store/.*name another"):
        TrialStore(tmp_path / "file" / "store").check_writable()


def test_the_folder_is_on_the_disk_after_the_rename(tmp_path, monkeypatch):
    done = []
    replaced, synced = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *a: (replaced(*a), done.append("rename")))

    def sync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        done.append(kind)
        synced(handle)

    monkeypatch.setattr(os, "fsync", sync)
    TrialStore(tmp_path).add(RESULT)
    assert done == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("best_step", None, "a number in 'best_step', got None"),
        ("n_steps", 1.5, "a whole number >= 0 in 'n_steps', got 1.5"),
        ("n_tokens", 2**63, "a whole number >= 0 in 'n_tokens'"),
        ("flops", 10**309, "a finite number >= 0 in 'flops'"),
        ("trace", [[1, 10**400]], "int too large"),
        ("family", None, "a text in 'family', got None"),
        ("versions", [], r"keys and values in 'versions', got \[\]"),
    ],
)
def test_a_foreign_record_with_a_value_of_another_kind_is_left_alone(
    tmp_path, name, value, expected
):
    """Also one with the digest of its content, as another program might write it."""
    record = {**TrialResult(Trial("a", "b", 1), "completed", 1.0).to_json(), name: value}
    record.pop("digest")
    record["digest"] = digest_of(record, 64)
    with pytest.raises((ValueError, OverflowError), match=expected):
        TrialResult.from_json(record)
    (tmp_path / f"{record['key']}.json").write_text(json.dumps(record))
    assert list(TrialStore(tmp_path).results()) == []
