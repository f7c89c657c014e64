import csv
import json

import pytest

from lensllm.data import files
from lensllm.data.files import load_csv, load_jsonl

ROWS = [(f"text number {i}", f"title {i}") for i in range(50)]


def write_jsonl(path, rows=ROWS, fields=("input", "target")):
    lines = [json.dumps(dict(zip(fields, row, strict=True)), ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_csv(path, rows=ROWS, fields=("input", "target")):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([fields, *rows])
    return path


@pytest.fixture(params=["jsonl", "csv"])
def kind(request, tmp_path):
    """(writer, loader, path) of one format."""
    path = tmp_path / f"news.{request.param}"
    pair = (write_jsonl, load_jsonl) if request.param == "jsonl" else (write_csv, load_csv)
    return (*pair, path)


def everything(data):
    return [*data.train, *data.validation, *data.test]


def test_all_pairs_come_through_once_in_three_splits(kind):
    write, load, path = kind
    data = load(write(path))
    assert sorted(everything(data)) == sorted(ROWS)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [35, 5, 10]
    assert data.name == "news"
    assert load(path) == data
    assert load(path, seed=1).fingerprint != data.fingerprint


def test_both_formats_give_the_same_data(tmp_path):
    rows = [*ROWS, ("with, comma", 'with "quotes"'), ("line\nbreak", "größe 猫")]
    one = load_jsonl(write_jsonl(tmp_path / "a.jsonl", rows))
    other = load_csv(write_csv(tmp_path / "a.csv", rows))
    assert one == other


def test_what_is_written_is_read_again(tmp_path):
    pairs = [("one\nline", "\u00e9\u2028 {braces}"), ('"quoted"', "\\n")]
    path = tmp_path / "pairs.jsonl"
    files.write_jsonl(path, pairs)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2  # a U+2028 would end a line
    assert [tuple(json.loads(line).values()) for line in lines] == pairs


def test_options_name_fields_shares_and_limits(kind):
    write, load, path = kind
    data = load(
        write(path, fields=("body", "headline")),
        input_field="body",
        target_field="headline",
        name="mine",
        validation_fraction=0.2,
        test_fraction=0.5,
        max_evaluation=8,
        max_input_tokens=7,
        max_target_tokens=6,
    )
    assert data.name == "mine"
    assert [len(part) for part in (data.train, data.validation, data.test)] == [34, 8, 8]
    assert (data.max_input_tokens, data.max_target_tokens) == (7, 6)


def test_repeated_pairs_are_dropped_and_equal_inputs_stay_together(kind, caplog):
    write, load, path = kind
    rows = [(a, f"{b} {k}") for a, b in ROWS for k in range(3)]
    data = load(write(path, [*rows, *rows[:9]]))
    assert sorted(everything(data)) == sorted(rows)
    assert f"Dropped 9 repeated pairs of {path}" in caplog.text
    inputs = [{a for a, _ in part} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, inputs)) == len(set.union(*inputs)) == 50


def test_a_byte_order_mark_blank_lines_and_crlf_do_no_harm(kind):
    write, load, path = kind
    expected = load(write(path))
    text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
    path.write_bytes(("\ufeff" + text + "\r\n").encode())
    assert load(path) == expected


def test_wrong_field_names_are_told_with_the_ones_there_are(kind):
    write, load, path = kind
    write(path, fields=("text", "summary"))
    line = 1 if path.suffix == ".jsonl" else 2
    with pytest.raises(
        ValueError, match=rf"'input' \(dataset\.input_field\) in line {line} of"
    ) as e:
        load(path)
    assert "which has: text, summary" in str(e.value)
    with pytest.raises(ValueError, match=r"'target' \(dataset\.target_field\)"):
        load(path, input_field="text")


def test_an_empty_text_is_told_with_its_line(kind):
    write, load, path = kind
    write(path, [*ROWS[:3], ("some text", " "), *ROWS[3:]])
    line = 4 if path.suffix == ".jsonl" else 5
    with pytest.raises(ValueError, match=rf"field 'target' of line {line} of .*, got ' '"):
        load(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"JSON in line 3 of .*news\.jsonl"),
        (r'{"input": "a \ud83d b", "target": "x"}', r"JSON in line 3 .*surrogates not allowed"),
        ("[1, 2]", r"an object in line 3 of .*news\.jsonl, got '\[1, 2\]'"),
        ('{"input": 5, "target": "x"}', r"text in field 'input' of line 3 .*got 5"),
        ('{"input": "x", "target": null}', r"text in field 'target' of line 3 .*got None"),
        ('{"input": "x"}', r"field 'target' .* in line 3 .*which has: input"),
    ],
)
def test_bad_lines_are_told_with_their_number(tmp_path, line, message):
    path = write_jsonl(tmp_path / "news.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(ValueError, match=message):
        load_jsonl(path)


def test_escaped_texts_of_json_are_read(tmp_path):
    rows = [*ROWS, ("a fox 🦊", "größe 猫")]
    path = tmp_path / "news.jsonl"
    lines = [json.dumps({"input": a, "target": b}) for a, b in rows]  # all but ASCII is escaped
    path.write_text("\n".join(lines))
    assert rows[-1] in everything(load_jsonl(path))


def test_a_short_csv_row_is_told(tmp_path):
    path = write_csv(tmp_path / "news.csv")
    path.write_text(path.read_text() + "only one cell\n")
    with pytest.raises(ValueError, match=r"field 'target' of line 52 of .*news\.csv, got None"):
        load_csv(path)


def test_long_texts_in_csv_are_read(tmp_path):
    rows = [("word " * 40_000, "long one"), *ROWS]
    assert ("word " * 40_000, "long one") in everything(
        load_csv(write_csv(tmp_path / "n.csv", rows))
    )


def test_too_little_data_is_told_with_its_number(kind):
    write, load, path = kind
    with pytest.raises(ValueError, match=f"at least 10 pairs .* in {path}, got 9"):
        load(write(path, ROWS[:9]))
    with pytest.raises(ValueError, match=f"at least 10 pairs .* in {path}, got 1"):
        load(write(path, [("same", f"t{i}") for i in range(20)]))
    path.write_text("")
    with pytest.raises(ValueError, match=f"at least 10 pairs .* in {path}, got 0"):
        load(path)
    assert len(everything(load(write(path, ROWS[:10])))) == 10


def test_no_file_is_told_with_its_path(kind):
    _, load, path = kind
    with pytest.raises(FileNotFoundError, match=f"dataset.path={path}"):
        load(path)


def test_other_encodings_are_told_with_the_path(kind):
    _, load, path = kind
    path.write_bytes("input,target\ngröße,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"UTF-8 .*{path}.*0xf6"):
        load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.0}, "> 0, got 0.0 and 0.2"),
        ({"test_fraction": -0.1}, "> 0, got 0.1 and -0.1"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, r"< 1, got 0\.5 \+ 0\.5"),
        ({"max_evaluation": 0}, "`max_evaluation` > 0, got 0"),
        ({"max_target_tokens": 0}, "`max_target_tokens` > 0 for data set 'news', got 0"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    write, load, path = kind
    with pytest.raises(ValueError, match=message):
        load(write(path), **options)
