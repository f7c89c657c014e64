"""One text in two spellings is in one split; what leaks between splits is counted."""

import random
import time
import unicodedata

import numpy as np
import pytest

from lensllm.data import load_jsonl, load_parquet, make_text_data
from lensllm.data.leaks import near_duplicates, overlap
from tests.wild.data import everything, write_json_lines

WORDS = [f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in ("st", "nd", "rm", "l")]


def texts(n, seed=0, words=30):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def spellings(i):
    text = f"Le café numéro {i} à Orléans"
    return [unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), text.upper()]


@pytest.fixture
def rows():
    return [
        {"input": a, "target": f"t {i} {k}"} for i in range(60) for k, a in enumerate(spellings(i))
    ]


def numbers(part):
    return {a.lower().split("ro ")[1].split()[0] for a, _ in part}


def test_unicode_forms_of_one_text_are_in_one_split_of_a_file(tmp_path, rows):
    data = load_jsonl(write_json_lines(tmp_path / "p.jsonl", rows))
    assert len(everything(data)) == 180
    assert not numbers(data.train) & (numbers(data.test) | numbers(data.validation))
    assert (data.leaked.inputs, data.leaked.normalised) == (0, 0)


def test_unicode_forms_of_one_text_are_in_one_split_of_a_table(tmp_path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    data = load_parquet(str(tmp_path / "p.parquet"), n_validation=10, n_test=20)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 30, 60)
    assert not numbers(data.train) & (numbers(data.test) | numbers(data.validation))


def test_leaks_are_counted_by_kind(caplog):
    base = texts(40)
    test = [(text, "t") for text in base[:9]]
    train = [
        (base[0], "t"),  # the pair
        (base[1], "u"),  # its input
        (f"  {base[2].upper()} ", "t"),  # another spelling
        (f"{base[3]} and", "t"),  # nearly
        (" ".join(base[4].split()[:12]), "t"),  # less than half of it
        *((text, "t") for text in base[10:]),
    ]
    data = make_text_data("toy", train, [("v", "v")], test)
    leaked = {"pairs": 1, "inputs": 2, "normalised": 1, "near": 1}
    assert data.summary()["leaked"] == leaked
    assert (
        "1 of 35 training pairs are in the test set, 2 have an input of it, 1 one in another"
        in (caplog.text)
    )
    assert "toy: 1 of 35 training pairs have a near-duplicate" in caplog.text


def test_near_duplicates_are_those_that_a_full_comparison_finds():
    rng = np.random.default_rng(0)
    base = texts(120, seed=1)
    changed = []
    for text in base:  # a random share of the words replaced
        words = text.split()
        for i in np.flatnonzero(rng.random(len(words)) < rng.random() / 8):
            words[i] = "zzz"
        changed.append(" ".join(words))

    def runs(text):
        return {text[i : i + 5] for i in range(len(text) - 4)}

    sets = [[runs(text) for text in part] for part in (changed, base)]
    expected = [max(len(a & b) / len(a | b) for b in sets[1]) >= 0.8 for a in sets[0]]
    found = near_duplicates(changed, base)
    assert 24 < sum(expected) < 96
    assert not (found & ~np.array(expected)).any()
    assert (np.array(expected) & ~found).sum() <= 2  # 3 of 1000 at the threshold, fewer above


def test_texts_without_spaces_and_short_ones_are_compared():
    assert (
        near_duplicates(["机器学习模型的微调需要选择合适的预训练模型", "ab"], ["x"]).tolist()
        == [False] * 2
    )
    long = "机器学习模型的微调需要选择合适的预训练模型以及足够多的数据和时间"
    assert near_duplicates([long + "。", "ab"], [long, "AB "]).tolist() == [True, True]
    assert near_duplicates([], ["x"]).shape == (0,)


def test_comparing_large_splits_takes_seconds():
    train, test = [[(a, "t") for a in texts(n, seed=n, words=60)] for n in (20_000, 1000)]
    start = time.process_time()
    assert overlap([*train, test[0]], test).inputs == 1
    assert time.process_time() - start < 5
