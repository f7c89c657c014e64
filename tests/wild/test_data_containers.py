"""Containers: compressed files, shards, patterns, saved data sets, nested columns, encodings."""

import json
import time

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from lensllm.data import load_csv, load_file, load_jsonl, load_parquet, load_table
from tests.wild.data import (
    everything,
    labelled_table,
    message_rows,
    plain_rows,
    write_cells,
    write_gzip,
    write_json_lines,
    write_zstd,
)

PAIRS = sorted((f"q {i}", f"a {i}") for i in range(60))
LINES = "".join(json.dumps(row) + "\n" for row in plain_rows())


@pytest.mark.parametrize(("ending", "write"), [("gz", write_gzip), ("zst", write_zstd)])
def test_compressed_lines_are_read(tmp_path, ending, write):
    path = write(tmp_path / f"pairs.jsonl.{ending}", LINES)
    for load in (load_jsonl, load_file):
        data = load(path)
        assert sorted(everything(data)) == PAIRS
        assert data.name == "pairs"


def test_a_compressed_file_that_was_cut_off_is_named(tmp_path):
    path = write_gzip(tmp_path / "pairs.jsonl.gz", LINES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"complete compressed file at {path}"):
        load_file(path)


def test_a_folder_of_shards_and_patterns_with_stars_and_brackets(tmp_path):
    rows = plain_rows()
    for i in range(3):
        write_json_lines(tmp_path / "d" / f"{i}" / f"part-{i}.jsonl", rows[20 * i : 20 * i + 20])
    (tmp_path / "d" / "README.md").write_text("about")
    (tmp_path / "d" / ".cache.json").write_text("{}")
    assert sorted(everything(load_file(tmp_path / "d"))) == PAIRS
    data = load_file(f"{tmp_path}/d/**/*.jsonl")
    assert sorted(everything(data)) == PAIRS
    assert data.name == "d"
    assert len(everything(load_file(f"{tmp_path}/d/[01]/part-*.jsonl"))) == 40


def test_a_name_with_brackets_is_a_name(tmp_path):
    path = write_json_lines(tmp_path / "pairs [v2] #1, a=b.jsonl", plain_rows())
    assert sorted(everything(load_file(path))) == PAIRS
    table = tmp_path / "pairs [v2].parquet"
    labelled_table().to_parquet(table)
    data = load_parquet(str(table), input="{text}", target="{label}", n_validation=5, n_test=5)
    assert len(everything(data)) == 60


def test_files_of_several_formats_in_a_folder_are_told_apart(tmp_path):
    write_json_lines(tmp_path / "d" / "a.jsonl", plain_rows())
    write_cells(tmp_path / "d" / "b.csv", PAIRS)
    with pytest.raises(ValueError, match=r"one format in the folder .* got \.csv, \.jsonl: name"):
        load_file(tmp_path / "d")
    assert sorted(everything(load_csv(tmp_path / "d"))) == PAIRS


def test_splits_that_file_names_tell_are_kept(tmp_path):
    rows = plain_rows()
    write_json_lines(tmp_path / "d" / "train-00000-of-00002.jsonl", rows[:20])
    write_json_lines(tmp_path / "d" / "train-00001-of-00002.jsonl", rows[20:40])
    write_json_lines(tmp_path / "d" / "test.jsonl", rows[40:])
    data = load_file(tmp_path / "d")
    assert sorted(data.test) == sorted((row["input"], row["target"]) for row in rows[40:])
    assert (len(data.train), len(data.validation)) == (36, 4)


@pytest.mark.parametrize("save", ["parquet", "save_to_disk"])
def test_class_labels_are_their_names(tmp_path, save):
    table = labelled_table()
    folder = tmp_path / "reviews"
    if save == "parquet":
        folder.mkdir()
        table.to_parquet(folder / "part-0.parquet")
    else:
        table.save_to_disk(folder)
    data = load_file(folder)
    assert ("review 3 of music", "positive") in everything(data)
    assert len(everything(data)) == 60
    assert data.name == "reviews"
    mapped = load_table(
        str(folder), "reviews", input="{text}", target="{label}", n_validation=6, n_test=12
    )
    assert sorted(everything(mapped)) == sorted(everything(data))


def test_a_saved_dictionary_keeps_its_splits(tmp_path):
    table = labelled_table()
    parts = table.train_test_split(test_size=15, seed=0)
    parts.save_to_disk(tmp_path / "reviews")
    data = load_file(tmp_path / "reviews")
    assert sorted(a for a, _ in data.test) == sorted(parts["test"]["text"])
    assert len(everything(data)) == 60


def test_a_folder_that_shadows_a_data_set_of_the_hub_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imdb").mkdir()
    labelled_table().to_parquet(tmp_path / "imdb" / "part-0.parquet")
    options = {"input": "{text}", "target": "{label}", "n_validation": 5, "n_test": 5}
    data = load_table("imdb", "imdb", **options)
    assert len(everything(data)) == 60
    assert f"imdb is read from the folder {tmp_path / 'imdb'} here, not from the Hub" in caplog.text
    caplog.clear()
    load_table("./imdb", "imdb", **options)
    assert "not from the Hub" not in caplog.text


def test_an_unlabelled_row_is_odd(tmp_path, caplog):
    table = labelled_table()
    labels = table["label"][:59]
    rows = {"text": list(table["text"]), "label": [*labels, -1]}
    type(table).from_dict(rows, table.features).to_parquet(tmp_path / "r.parquet")
    assert len(everything(load_file(tmp_path / "r.parquet"))) == 59
    assert "row 60 of" in caplog.text


def test_nested_columns_of_parquet_are_conversations_or_are_taken_by_name(tmp_path):
    chats = pyarrow.Table.from_pylist(message_rows())
    pyarrow.parquet.write_table(chats, tmp_path / "chats.parquet")
    assert ("Question 5?", "Answer 5.") in everything(load_file(tmp_path / "chats.parquet"))
    rows = [{"q": {"text": f"q {i}"}, "answers": {"text": [f"a {i}", "x"]}} for i in range(60)]
    path = tmp_path / "squad.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    options = {"input": "{q[text]}", "target": "{answers[text]}"}
    with pytest.raises(ValueError, match=r"a list \(\['a 0', 'x'\]\): say what stands between"):
        load_file(path, **options)
    assert ("q 3", "a 3 / x") in everything(load_file(path, join=" / ", **options))
    mapped = {"n_validation": 5, "n_test": 5, **options}
    with pytest.raises(ValueError, match=r"a list \(\['a \d+', 'x'\]\): say what stands between"):
        load_parquet(str(path), **mapped)
    assert ("q 3", "a 3 / x") in everything(load_parquet(str(path), join=" / ", **mapped))
    first = {**mapped, "target": "{answers[text][0]}"}
    assert sorted(everything(load_parquet(str(path), **first))) == PAIRS


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("load", [load_csv, load_file])
def test_another_encoding_is_named_with_the_way_out(tmp_path, load, encoding):
    path = tmp_path / "p.csv"
    text = "input,target\n" + "".join(f"größe {i},é {i}\n" for i in range(20))
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=rf"UTF-8 .*looks like {encoding}; add dataset\.encoding"):
        load(path)
    assert ("größe 3", "é 3") in everything(load(path, encoding=encoding))
    with pytest.raises(ValueError, match=r"dataset\.encoding, got 'latin-77'"):
        load(path, encoding="latin-77")


def test_a_line_of_ten_megabytes_is_read_in_seconds(tmp_path):
    long = {"input": "word and more " * 750_000, "target": "long"}
    path = write_json_lines(tmp_path / "p.jsonl", [*plain_rows(), long])
    start = time.process_time()
    pairs = everything(load_file(path))
    assert time.process_time() - start < 5
    assert (long["input"], "long") in pairs


def test_an_encoding_is_told_of_a_compressed_file_too(tmp_path):
    import gzip

    text = "input,target\n" + "".join(f"größe {i},é {i}\n" for i in range(20))
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(text.encode("utf-16")))
    with pytest.raises(ValueError, match="looks like utf-16"):
        load_file(path)
    assert ("größe 3", "é 3") in everything(load_file(path, encoding="utf-16"))


def test_columns_that_datasets_has_no_type_for_are_read(tmp_path):
    frame = pd.DataFrame({"text": [f"t {i}" for i in range(20)]})
    frame["label"] = pd.Categorical(["yes", "no"] * 10)
    frame.to_parquet(tmp_path / "c.parquet")
    assert ("t 3", "no") in everything(load_file(tmp_path / "c.parquet"))


@pytest.mark.parametrize("key", ["data", "train"])
def test_one_object_around_all_rows_is_looked_into(tmp_path, key):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({key: plain_rows()}))
    assert sorted(everything(load_file(path))) == PAIRS


def test_an_ending_that_is_none_is_named(tmp_path):
    path = tmp_path / "p.xlsx"
    path.write_text("x")
    with pytest.raises(ValueError, match=r"ends in \.jsonl.*got '\.xlsx'"):
        load_file(path)


def test_a_file_that_is_not_there_is_told_with_those_that_are(tmp_path):
    write_json_lines(tmp_path / "pairs.jsonl", plain_rows())
    with pytest.raises(FileNotFoundError, match=r"found none there; .* has pairs\.jsonl"):
        load_file(tmp_path / "pair.jsonl")


def test_the_home_folder_is_written_as_people_write_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_json_lines(tmp_path / "pairs.jsonl", plain_rows())
    for load in (load_file, load_jsonl):
        assert sorted(everything(load("~/pairs.jsonl"))) == PAIRS
