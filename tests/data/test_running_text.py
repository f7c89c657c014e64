from pathlib import Path

import pandas as pd
import pytest

from lensllm.data import load_running_text
from lensllm.data.rows import Rows
from lensllm.data.running_text import passages

WORDS = [f"word{i}" for i in range(3000)]


def test_passages_hold_the_text_in_order_and_nothing_twice():
    texts = [" ".join(WORDS[i : i + 7]) for i in range(0, 3000, 7)]
    found = list(passages(["", " \n ", None, *texts], 200, 40))
    joined = " ".join(source + target for source, target in found)
    assert joined.split() == WORDS[: len(joined.split())]
    assert len(joined.split()) > 2950
    assert all(len(a) >= 40 and 200 <= len(a + b) < 220 for a, b in found)
    assert all(target.startswith(" ") for _, target in found)
    assert list(passages(texts, 200, 40, most=3)) == found[:3]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    path = tmp_path / "text"
    path.mkdir()
    for split, start in (("train", 0), ("validation", 1000), ("test", 2000)):
        words = WORDS[start : start + 1000]
        pd.DataFrame({"text": [" ".join(words[i : i + 9]) for i in range(0, 1000, 9)]}).to_parquet(
            path / f"{split}.parquet"
        )
    return path


def test_splits_become_passages(folder):
    data = load_running_text(str(folder), "mine", n_characters=100, n_context=20, n_test=5)
    assert len(data.train) > 60
    assert len(data.test) == 5
    assert data.test[0][0].startswith("word2000")
    assert all(isinstance(part, Rows) for part in (data.train, data.validation, data.test))


def test_passages_are_packed_once(folder):
    data = load_running_text(str(folder), "mine", n_characters=100, n_context=20)
    (file,) = data.train.table.cache_files
    written = Path(file["filename"]).stat().st_mtime_ns
    again = load_running_text(str(folder), "mine", n_characters=100, n_context=20)
    assert again.fingerprint == data.fingerprint
    assert again.train.table.cache_files == [file]
    assert Path(file["filename"]).stat().st_mtime_ns == written


def test_a_split_without_a_whole_passage_is_told(folder):
    with pytest.raises(ValueError, match=r"n_characters = 100000 .*, got fewer in one of 112 rows"):
        load_running_text(str(folder), "mine", n_characters=100_000)


def test_a_full_disk_is_told_with_the_way_out(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.Dataset.from_generator", full)
    with pytest.raises(ValueError, match=r"room for the cache .*No space left .* set HF_HOME"):
        load_running_text(str(folder), "mine", n_characters=100, n_context=20)


def test_what_cannot_be_packed_says_why(folder):
    with pytest.raises(ValueError, match=r"the column 'body' \(dataset\.column\) .* has text"):
        load_running_text(str(folder), "mine", column="body")
    with pytest.raises(ValueError, match=r"n_context < dataset\.n_characters = 50, got 50"):
        load_running_text(str(folder), "mine", n_characters=50, n_context=50)
