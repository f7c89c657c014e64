"""Encoded pairs on disk."""

import json
import os
import re

import numpy as np
import pytest

from lensllm.finetune.encoding import PairEncoder
from lensllm.finetune.token_cache import encode_once

KEY = {"data": "abc", "n_samples": 2500}


@pytest.fixture
def encoder(tokenizer):
    return PairEncoder(tokenizer, is_encoder_decoder=False, max_input_tokens=9, max_target_tokens=5)


def test_what_is_read_back_is_what_was_encoded(encoder, tokenizer, pairs, tmp_path):
    many = [(f"{a} {i}", "" if i == 7 else f"{b} {i}") for i in range(21) for a, b in pairs]
    table = encode_once(encoder, many, tmp_path, KEY)
    counts = vars(encoder.counts)
    plain = PairEncoder(
        tokenizer, is_encoder_decoder=False, max_input_tokens=9, max_target_tokens=5
    )
    assert list(table) == plain.encode(many)
    assert counts == vars(plain.counts)
    assert counts["dropped"] == 120
    assert counts["cut_inputs"] > 2000
    assert table[3:5] == [table[3], table[4]]
    assert isinstance(table.tokens, np.memmap)
    with pytest.raises(IndexError):
        table[len(table)]


def test_a_full_disk_costs_the_table_and_not_the_trial(
    encoder, tokenizer, pairs, tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lensllm.finetune.token_cache.np.save", full)
    found = encode_once(encoder, pairs, tmp_path, KEY)
    plain = PairEncoder(
        tokenizer, is_encoder_decoder=False, max_input_tokens=9, max_target_tokens=5
    )
    assert found == plain.encode(pairs)
    assert encoder.counts == plain.counts  # not counted twice
    message = r"write .*No space left .*free some space.*runner\.token_cache"
    assert re.search(message, caplog.text)
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_was_faster_is_taken_over(encoder, pairs, tmp_path, monkeypatch):
    first = list(encode_once(encoder, pairs, tmp_path, KEY))
    (folder,) = tmp_path.iterdir()
    hidden, rename = folder.rename(tmp_path / "hidden"), os.rename

    def slow(*_):
        rename(hidden, folder)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("lensllm.finetune.token_cache.os.rename", slow)
    assert list(encode_once(encoder, pairs, tmp_path, KEY)) == first
    assert json.loads((folder / "counts.json").read_text())["pairs"] == len(pairs)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["tokens.bin", "ends.npy", "n_bytes.npy", "counts.json"])
@pytest.mark.parametrize("spoil", ["cut", "change", "remove"])
def test_a_spoilt_table_is_set_aside_and_made_again(
    encoder, tokenizer, pairs, tmp_path, caplog, name, spoil
):
    first = list(encode_once(encoder, pairs, tmp_path, KEY))
    counts = vars(encoder.counts)
    (folder,) = tmp_path.iterdir()
    path = folder / name
    content = path.read_bytes()
    if spoil == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-48] if spoil == "cut" else b"\x07" + content[1:])
    again = PairEncoder(
        tokenizer, is_encoder_decoder=False, max_input_tokens=9, max_target_tokens=5
    )
    assert list(encode_once(again, pairs, tmp_path, KEY)) == first
    assert vars(again.counts) == counts
    assert f"Set aside {folder}" in caplog.text
    assert {p.name for p in tmp_path.iterdir()} == {folder.name, f"{folder.name}.set-aside"}
