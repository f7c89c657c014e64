import json
import os

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from lensllm.data import load_parquet, load_table
from lensllm.data.rows import Rows, Template, split_rows, take

SENTENCE = Template("{text}", "{label}")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def frame(n, start=0):
    rows = range(start, start + n)
    return pd.DataFrame(
        {"text": [f"text {i}" for i in rows], "label": [f"LABEL {i}" for i in rows]}
    )


@pytest.fixture
def folder(tmp_path):
    """Train and test files as the Hub has them; one test pair and one test input leak."""
    path = tmp_path / "mine"
    path.mkdir()
    train = frame(200)
    train.loc[200] = ["text 0", "LABEL 0"]
    train.loc[201] = ["text 7", "  "]
    train.to_parquet(path / "train.parquet", index=False)
    test = pd.concat([frame(2), frame(30, 1000)])
    test.iloc[1, 1] = "OTHER"
    test.to_parquet(path / "test.parquet", index=False)
    return path


def test_parquet_files_become_disjoint_splits(tmp_path):
    frame(60).to_parquet(tmp_path / "part-0.parquet")
    frame(60, 60).to_parquet(tmp_path / "part-1.parquet")
    data = load_parquet(
        f"{tmp_path}/part-*.parquet", input="Read: {text}", target="{label}",
        n_validation=10, n_test=20,
    )  # fmt: skip
    parts = [set(data.train), set(data.validation), set(data.test)]
    assert [len(part) for part in parts] == [90, 10, 20]
    assert len(set.union(*parts)) == 120
    assert data.name == "part"
    assert all(source == f"Read: text {target[6:]}" for source, target in data.train)
    again = load_parquet(
        f"{tmp_path}/part-*.parquet", input="Read: {text}", target="{label}",
        n_validation=10, n_test=20,
    )  # fmt: skip
    assert again.fingerprint == data.fingerprint
    other = load_parquet(
        f"{tmp_path}/part-*.parquet", input="Read: {text}", target="{label}",
        n_validation=10, n_test=20, seed=1,
    )  # fmt: skip
    assert other.fingerprint != data.fingerprint


def test_a_folder_of_splits_is_read_like_the_hub_and_its_leaks_are_told(folder, caplog):
    data = load_table(
        str(folder), "mine", input="{text}", target="{label}", test_split="test", n_validation=15,
        n_test=100,
    )  # fmt: skip
    assert (len(data.train), len(data.validation), len(data.test)) == (185, 15, 32)
    assert "Dropped 2 repeated or empty pairs of mine" in caplog.text
    leaked = [pair for pair in data.train if pair[0] in ("text 0", "text 1")]
    same = sum(pair == ("text 0", "LABEL 0") for pair in leaked)
    message = f"{same} of 185 training pairs are in the test set, {len(leaked)} have an input of it"
    assert message in caplog.text
    assert len(load_table(str(folder), "m", input="{text}", target="{label}", n_train=50,
                          n_validation=15, n_test=20).train) == 50  # fmt: skip


def test_missing_values_are_no_texts(tmp_path, caplog):
    table = frame(40)
    table["score"] = [i / 2 if i % 5 else None for i in range(40)]
    table.loc[3, "label"] = None
    table.to_parquet(tmp_path / "holes.parquet")
    data = load_parquet(
        str(tmp_path / "holes.parquet"), input="{text} {score:.1f}", target="{label}",
        n_validation=5, n_test=10,
    )  # fmt: skip
    pairs = {*data.train, *data.validation, *data.test}
    assert len(pairs) == 39
    assert {("text 1 0.5", "LABEL 1"), ("text 5 ", "LABEL 5")} < pairs
    assert "Dropped 1 repeated or empty pairs of holes" in caplog.text


def test_empty_targets_of_a_test_set_are_dropped_and_counted(folder, caplog):
    test = frame(30, 1000)
    test.loc[:3, "label"] = ["", " ", None, "kept"]
    test.to_parquet(folder / "test.parquet", index=False)
    data = load_table(
        str(folder), "mine", input="{text}", target="{label}", test_split="test", n_validation=15
    )
    assert (len(data.test), data.test[0]) == (27, ("text 1003", "kept"))
    assert "Dropped 5 repeated or empty pairs of mine" in caplog.text


def test_rows_stay_on_disk_until_they_are_asked_for():
    table = Dataset.from_pandas(frame(2500))
    rows = Rows(table, SENTENCE)
    assert list(rows) == [rows[i] for i in range(2500)]
    assert list(rows[10:12]) == [("text 10", "LABEL 10"), ("text 11", "LABEL 11")]
    picked = take(rows, np.array([5, 3]))
    assert isinstance(picked, Rows)
    assert list(picked) == [("text 5", "LABEL 5"), ("text 3", "LABEL 3")]
    assert take([("a", "b"), ("c", "d")], np.array([1])) == [("c", "d")]


def test_equal_inputs_stay_in_one_split():
    table = Dataset.from_pandas(
        pd.DataFrame(
            {"text": [f"t{i % 50}" for i in range(200)], "label": [str(i) for i in range(200)]}
        )
    )
    train, validation, test, dropped = split_rows(Rows(table, SENTENCE), 10, 15, seed=0)
    inputs = [{source for source, _ in part} for part in (train, validation, test)]
    assert [len(part) for part in inputs] == [25, 10, 15]
    assert not inputs[0] & inputs[1] | inputs[0] & inputs[2] | inputs[1] & inputs[2]
    assert (len(train), dropped) == (100, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_split": "exam"}, "a split among train, test of 'mine', got 'exam'"),
        ({"target": "{lable}"}, r"dataset\.target='{lable}', got a table with text, label .*lable"),
        ({"input": "{text"}, r"dataset\.input='{text' .*\(ValueError: expected '}' before end"),
        ({"input": "{text.x}"}, r"dataset\.input='{text\.x}' .*\(AttributeError: 'str' object"),
        ({"n_test": 0}, r"dataset\.n_test > 0, got 0"),
        ({"n_train": -3}, r"dataset\.n_train > 0, got -3"),
        ({"n_test": 500}, r"more than 515 distinct inputs .*, got 200"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder, options, message):
    given = {"input": "{text}", "target": "{label}", "n_validation": 15, "n_test": 20, **options}
    with pytest.raises(ValueError, match=message):
        list(load_table(str(folder), "mine", **given).train)


def test_a_data_set_out_of_reach_is_named():
    with pytest.raises(ValueError, match=r"data set 'no/such-set' on the Hub, in the local cache"):
        load_table("no/such-set", "x")


def test_files_that_are_no_tables_are_named(tmp_path):
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(ValueError, match=r"can be read at '.*bad\.parquet', got: Parquet magic"):
        load_parquet(str(tmp_path / "bad.parquet"))


def test_missing_parquet_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Parquet files at dataset\.path=.*none\.parquet"):
        load_parquet(f"{tmp_path}/none.parquet")


def test_a_full_disk_is_told_with_the_way_out(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", full)
    with pytest.raises(ValueError, match=r"room for the cache .* No space left .* set HF_HOME"):
        load_table(str(folder), "mine")


def test_files_that_do_not_fit_together_are_told_with_the_cause(folder):
    frame(5).rename(columns={"label": "other"}).to_parquet(folder / "test.parquet", index=False)
    with pytest.raises(ValueError, match=r"files that can be read at .*mine', got: Couldn't cast"):
        load_table(str(folder), "mine")


@pytest.mark.hub
@pytest.mark.skipif(os.environ["HF_HUB_OFFLINE"] == "1", reason="needs the hub: LENSLLM_HUB=1")
def test_a_data_set_of_the_hub_is_read():
    data = load_table(
        "Salesforce/wikitext", "wiki", config="wikitext-2-raw-v1", input="Read:", target="{text}",
        n_validation=1, n_test=1,
    )  # fmt: skip
    assert len(data.train) > 0


def test_a_trial_on_a_memory_mapped_table_is_tokenised_once(
    model_folders, make_parts, tmp_path, monkeypatch
):
    """The same result as from memory, and the second time from the cache."""
    from lensllm.core.trials import Trial
    from lensllm.data.pairs import make_text_data
    from lensllm.finetune import ModelSource, TrainingSettings, run_trial

    frame(300).to_parquet(tmp_path / "own.parquet")
    data = load_parquet(
        str(tmp_path / "own.parquet"), input="{text}", target="{label}", n_validation=20, n_test=30,
        max_target_tokens=24,
    )  # fmt: skip
    source = ModelSource(str(model_folders["gpt2"]))
    settings = TrainingSettings(batch_size=16, max_epochs=1, n_evaluations=2)

    def run(data):
        return run_trial(
            Trial(source.name, data.name, 100), source, data, settings, **make_parts(),
            token_cache=tmp_path / "tokens",
        )  # fmt: skip

    first = run(data)
    (table,) = (tmp_path / "tokens").iterdir()
    counts = json.loads((table / "counts.json").read_text())
    assert set(counts.pop("digests")) == {"ends.npy", "n_bytes.npy", "tokens.bin"}
    assert counts.pop("target_bytes") > 100
    assert counts == {
        "pairs": 100, "cut_inputs": 0, "cut_targets": 0, "dropped": 0, "lost_bytes": 0,
    }  # fmt: skip
    monkeypatch.setattr("lensllm.finetune.token_cache.encode_to", lambda *_: pytest.fail("again"))
    again = run(data)
    assert (again.test_loss, again.cut_inputs) == (first.test_loss, first.cut_inputs)
    plain = make_text_data(
        data.name, list(data.train), list(data.validation), list(data.test),
        data.max_input_tokens, data.max_target_tokens,
    )  # fmt: skip
    assert plain.fingerprint == data.fingerprint
    assert run(plain).test_loss == first.test_loss


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        (("{text}", "label"), r"dataset\.target=\{label\}'"),
        (("my text", "{label}"), r"dataset\.input=\{column\}'"),
        (("{text}", "{{label}}"), "same text for every row"),
    ],
)
def test_a_format_without_a_column_is_refused(texts, meant):
    with pytest.raises(ValueError, match=meant):
        Template(*texts)
