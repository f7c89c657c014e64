import json

import pytest

from lensllm.data import load_chat


def turn(role, content):
    return {"role": role, "content": content}


def write(path, conversations):
    path.write_text("\n".join(json.dumps({"messages": c}) for c in conversations) + "\n")
    return path


def test_the_last_answer_is_the_target(tmp_path, caplog):
    chats = [[turn("user", f"Say {i}"), turn("assistant", str(i))] for i in range(12)]
    chats.append(
        [turn("system", "Be brief."), turn("user", "A"), turn("assistant", "B"), turn("user", "C"),
         turn("assistant", "D"), turn("user", "unanswered")]
    )  # fmt: skip
    chats.append([turn("user", "no answer")])
    data = load_chat(write(tmp_path / "chats.jsonl", chats))
    pairs = {*data.train, *data.validation, *data.test}
    assert ("Say 3", "3") in pairs
    assert ("system: Be brief.\nuser: A\nassistant: B\nuser: C", "D") in pairs
    assert len(pairs) == 13
    assert "Dropped 1 conversations" in caplog.text


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ("text", "'text'"),
        ([turn("user", "Hi"), {"role": "user"}], r"{'role': 'user'}"),
        ([turn("user", "Hi"), turn("assistant", None)], r"{'role': 'assistant', 'content': None}"),
        (None, "None"),
    ],
)
def test_what_is_no_conversation_is_named(tmp_path, messages, shown):
    path = write(tmp_path / "chats.jsonl", [messages])
    where = r"field 'messages' \(dataset\.messages_field\) of line 1 of .*chats\.jsonl, got "
    with pytest.raises(ValueError, match=f"{where}{shown}$"):
        load_chat(path)
