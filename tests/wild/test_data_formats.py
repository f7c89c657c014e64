"""Formats are recognised by their fields; odd rows are dropped, counted and named."""

import json

import pytest

from lensllm.data import load_chat, load_csv, load_file, load_jsonl
from lensllm.data.conversations import read_turns
from tests.wild.data import (
    alpaca_rows,
    everything,
    message_rows,
    plain_rows,
    sharegpt_rows,
    write_array,
    write_cells,
    write_json_lines,
)


@pytest.mark.parametrize("write", [write_array, write_json_lines])
def test_alpaca_as_an_array_and_as_lines(tmp_path, write):
    data = load_file(write(tmp_path / "alpaca.json", alpaca_rows()))
    pairs = everything(data)
    assert len(pairs) == 60
    assert ("Name topic 2.", "stone 2") in pairs
    assert ("Name topic 1.\n\nIt is about bread.", "bread 1") in pairs
    assert data.name == "alpaca"


def test_sharegpt_takes_the_last_answer_or_every_one(tmp_path):
    path = write_json_lines(tmp_path / "share.jsonl", sharegpt_rows())
    last = everything(load_file(path))
    context = "user: First question 7?\nassistant: First answer 7.\nuser: Second question 7?"
    assert len(last) == 60
    assert (context, "Second answer 7.") in last
    data = load_file(path, loss_on="assistant")
    pairs = everything(data)
    assert len(pairs) == 120
    assert {("First question 7?", "First answer 7."), (context, "Second answer 7.")} <= set(pairs)
    # What one pair asks for is in the input of the next one: both are in one split.
    numbers = [{a.split("?")[0].split()[-1] for a, _ in part} for part in splits_of(data)]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 60


def splits_of(data):
    return data.train, data.validation, data.test


def test_messages_with_tools_parts_and_system_turns(tmp_path):
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    agent = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Rain "}, {"text": "in Oslo?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3 mm", "tool_call_id": "1"},
        {"role": "assistant", "content": "A little."},
    ]
    rows = [*message_rows(), {"messages": agent}, {"messages": agent[:3]}]
    pairs = everything(load_file(write_json_lines(tmp_path / "m.jsonl", rows)))
    written = '{"name": "weather", "arguments": {"city": "Oslo"}}'
    asked = "system: Be brief.\nuser: Rain in Oslo?"
    assert ("Question 5?", "Answer 5.") in pairs
    assert (asked, written) in pairs
    assert (f"{asked}\nassistant: {written}\ntool: 3 mm", "A little.") in pairs
    assert len(pairs) == 62


def test_a_system_field_beside_the_turns_comes_first(tmp_path):
    path = write_json_lines(tmp_path / "m.jsonl", message_rows(system="Be kind."))
    assert ("system: Be kind.\nuser: Question 3?", "Answer 3.") in everything(load_file(path))


def test_prompt_and_completion_as_texts_or_as_turns(tmp_path):
    rows = [{"prompt": f"p {i}", "completion": f"c {i}"} for i in range(20)]
    chats = [
        {
            "prompt": [{"role": "user", "content": f"p {i}"}],
            "completion": [{"role": "assistant", "content": f"c {i}"}],
        }
        for i in range(20)
    ]
    one = everything(load_file(write_json_lines(tmp_path / "a.jsonl", rows)))
    other = everything(load_file(write_json_lines(tmp_path / "b.jsonl", chats)))
    assert sorted(one) == sorted(other) == sorted((f"p {i}", f"c {i}") for i in range(20))


def test_one_odd_row_is_dropped_and_named(tmp_path, caplog):
    rows = [*plain_rows(), {"input": "no target"}]
    data = load_file(write_json_lines(tmp_path / "p.jsonl", rows))
    assert len(everything(data)) == 60
    assert "Dropped 1 of 61 rows" in caplog.text
    assert "line 61 of" in caplog.text
    assert "field 'target', got none; its fields are input" in caplog.text


def test_a_broken_line_is_an_odd_row_too(tmp_path, caplog):
    path = write_json_lines(tmp_path / "p.jsonl", plain_rows())
    path.write_text(path.read_text() + '{"input": "cut of')
    assert len(everything(load_file(path))) == 60
    assert "line 61 of" in caplog.text


def test_the_first_row_may_be_the_odd_one(tmp_path):
    rows = [{"conversations": None}, *plain_rows()]
    assert len(everything(load_file(write_json_lines(tmp_path / "p.jsonl", rows)))) == 60


def test_more_odd_rows_than_the_share_are_refused(tmp_path):
    rows = [*plain_rows(), *[{"input": f"no target {i}"} for i in range(10)]]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"got 10 of 70 that are not, such as line 61 of .*line 62"
    ):
        load_file(path)
    assert len(everything(load_file(path, max_odd_share=0.2))) == 60


def test_unknown_fields_are_listed_with_the_way_out(tmp_path):
    rows = [{"frage": f"q {i}", "antwort": f"a {i}"} for i in range(20)]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    with pytest.raises(ValueError, match=r"found frage, antwort: .*dataset\.input=\{frage\}"):
        load_file(path)
    data = load_file(path, input="Q: {frage}", target="{antwort}")
    assert ("Q: q 3", "a 3") in everything(data)


def test_the_fields_to_take_are_suggested_by_their_values(tmp_path):
    rows = [["id", "message", "team", "day"]]
    rows += [[i, f"where is my order number {i}?", "ab"[i % 2], f"day {i}"] for i in range(20)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    with pytest.raises(ValueError, match=r"'dataset.input=\{message\}' 'dataset.target=\{team\}'$"):
        load_file(path)


def test_a_column_that_is_none_is_told_before_its_rows(tmp_path):
    rows = [{"customer_message": f"q {i}", "team": "ab"[i % 2]} for i in range(20)]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    words = r"got message; it has customer_message, team; did you mean customer_message\?$"
    with pytest.raises(ValueError, match=words):
        load_file(path, input="{message}", target="{team}")
    empty = write_json_lines(tmp_path / "e.jsonl", [{"a": "", "b": ""}] * 20)
    with pytest.raises(ValueError, match=r"20 of 20 that are not, .*: mend them$"):
        load_file(empty, input="{a}", target="{b}")


def test_lists_are_refused_or_joined_as_asked(tmp_path):
    rows = [{"question": f"q {i}", "answer": [f"a {i}", "or b"]} for i in range(20)]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    with pytest.raises(ValueError, match=r"field 'answer', got a list .*dataset\.join"):
        load_file(path)
    assert ("q 3", "a 3; or b") in everything(load_file(path, join="; "))


def test_nested_fields_are_refused_or_taken_by_name(tmp_path):
    rows = [{"question": f"q {i}", "answer": {"text": f"a {i}", "at": 3}} for i in range(20)]
    path = write_json_lines(tmp_path / "p.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"fields of its own \(text, at\): take one.*column\[text\]"
    ):
        load_file(path)
    data = load_file(path, input="{question}", target="{answer[text]}")
    assert ("q 3", "a 3") in everything(data)


def test_a_chat_file_with_another_field_lists_those_there_are(tmp_path):
    path = write_json_lines(tmp_path / "s.jsonl", sharegpt_rows())
    with pytest.raises(ValueError, match=r"'messages' .* of line 1 of .*has: id, conversations"):
        load_chat(path)
    data = load_chat(path, messages_field="conversations", loss_on="assistant")
    assert ("First question 7?", "First answer 7.") in everything(data)


@pytest.mark.parametrize("loss_on", ["all", ""])
def test_loss_on_what_is_not_known_is_refused(tmp_path, loss_on):
    path = write_json_lines(tmp_path / "s.jsonl", sharegpt_rows())
    with pytest.raises(ValueError, match=f"last or assistant, got {loss_on!r}"):
        load_file(path, loss_on=loss_on)


def test_content_without_a_text_is_no_turn():
    image = {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}
    with pytest.raises(ValueError, match="image_url"):
        read_turns([image])


# CSV


def test_a_row_with_more_cells_than_the_header_is_refused_with_its_line(tmp_path):
    path = write_cells(tmp_path / "p.csv", [(f"q {i}", f"a {i}") for i in range(20)])
    path.write_text(path.read_text() + "Greet,Hello, how are you?\n")
    message = r"2 cells in line 22 of .*p\.csv, got 3: .*\"Hello, how are you\?\""
    with pytest.raises(ValueError, match=message):
        load_csv(path)
    assert len(everything(load_file(path))) == 20  # one odd row


def test_empty_cells_beyond_the_header_are_no_cells(tmp_path):
    path = write_cells(tmp_path / "p.csv", [(f"q {i}", f"a {i}", "", "") for i in range(20)])
    assert len(everything(load_csv(path))) == 20


@pytest.mark.parametrize("load", [load_csv, load_file])
def test_a_stray_quote_that_swallows_rows_is_refused_with_its_line(tmp_path, load):
    lines = [f"q {i},a {i}" for i in range(41)]
    # Opened in line 12; the next quote, in line 32, closes it.
    lines[10], lines[30] = 'q 10,"a 10', 'q 30,a 30"'
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["input,target", *lines]) + "\n")
    with pytest.raises(ValueError, match=r"cells of line 12 of .*20 lines which are rows"):
        load(path)
    lines[30] = 'q 30,"a 30'  # the next quote is not at the end of its cell
    path.write_text("\n".join(["input,target", *lines]) + "\n")
    with pytest.raises(ValueError, match=r"begins at line 12 .*close it"):
        load(path)
    lines[30] = "q 30,a 30"  # there is no other quote
    path.write_text("\n".join(["input,target", *lines]) + "\n")
    with pytest.raises(ValueError, match=r"begins at line 12 .*close it"):
        load(path)


def test_a_quote_that_swallows_one_row_is_told(tmp_path, caplog):
    lines = [f"q {i},a {i}" for i in range(20)]
    lines[10:12] = ['q 10,"a 10', 'q 11,a 11"']
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["input,target", *lines]) + "\n")
    load_csv(path)
    assert "A cell of line 12 of" in caplog.text
    assert "is a quote not closed there?" in caplog.text


def test_quotes_where_they_belong_are_read_right(tmp_path):
    rows = [(f"q {i}", f"a {i}") for i in range(20)]
    letter = "Dear Ann,\nthe rain, at last.\nYours, and so on,\nBo\n5 o'clock"
    rows += [('5" pipe', 'says "yes", twice'), ("a letter", letter)]
    assert sorted(everything(load_csv(write_cells(tmp_path / "p.csv", rows)))) == sorted(rows)
    path = tmp_path / "inch.csv"
    text = "".join(f"q {i},a {i}\n" for i in range(20))
    path.write_text(f'input,target\n{text}5" pipe,6" pipe\n')  # within a cell a quote is a mark
    assert ('5" pipe', '6" pipe') in everything(load_csv(path))


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('input,target\nq 0,"a\n\n0"\nonly one\n')
    with pytest.raises(ValueError, match="line 5 of"):
        load_csv(path)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_and_tabs_are_read(tmp_path, mark):
    path = tmp_path / "p.csv"
    rows = "".join(f"q {i}, so{mark}a {i}\n" for i in range(20))
    path.write_text(f"input{mark}target\n{rows}")
    assert ("q 3, so", "a 3") in everything(load_csv(path))


def test_a_column_twice_is_refused(tmp_path):
    path = write_cells(tmp_path / "p.csv", [("a", "b", "c")], ("input", "target", "target"))
    with pytest.raises(ValueError, match=r"once in the header of .*, got 'target'"):
        load_csv(path)


def test_numbers_in_json_are_labels(tmp_path):
    rows = [{"text": f"t {i}", "label": i % 3} for i in range(20)]
    assert ("t 4", "1") in everything(load_file(write_json_lines(tmp_path / "p.jsonl", rows)))
    with pytest.raises(ValueError, match="text in field 'target' of line 1"):
        load_jsonl(write_json_lines(tmp_path / "q.jsonl", [{"input": "a", "target": 3}]))


def test_an_object_of_splits_is_read_as_such(tmp_path):
    path = tmp_path / "p.json"
    parts = {"train": plain_rows(), "test": [{"input": "t", "target": "u"}]}
    path.write_text("{\n" + json.dumps(parts)[1:])
    data = load_file(path)
    assert list(data.test) == [("t", "u")]
    assert len(data.train) + len(data.validation) == 60
