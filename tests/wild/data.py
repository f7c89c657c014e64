"""Files as people have them, made here: seeded, tiny, of nobody's text."""

import csv
import gzip
import json

import pyarrow

N = 60
TOPICS = ("rain", "bread", "stone", "music", "paper", "river")


def write_json_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_array(path, rows):
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    return path


def write_cells(path, rows, header=("input", "target")):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def write_gzip(path, text):
    path.write_bytes(gzip.compress(text.encode()))
    return path


def write_zstd(path, text):
    with pyarrow.output_stream(str(path), compression="zstd") as stream:
        stream.write(text.encode())
    return path


def plain_rows(n=N):
    """The issue's P: `q 7` -> `a 7`."""
    return [{"input": f"q {i}", "target": f"a {i}"} for i in range(n)]


def alpaca_rows(n=N):
    """Instructions, half of them with something that they are about."""
    return [
        {
            "instruction": f"Name topic {i}.",
            "input": f"It is about {TOPICS[i % 6]}." if i % 2 else "",
            "output": f"{TOPICS[i % 6]} {i}",
        }
        for i in range(n)
    ]


def sharegpt_rows(n=N):
    """Two questions and two answers each."""
    return [
        {
            "id": f"x{i}",
            "conversations": [
                {"from": "human", "value": f"First question {i}?"},
                {"from": "gpt", "value": f"First answer {i}."},
                {"from": "human", "value": f"Second question {i}?"},
                {"from": "gpt", "value": f"Second answer {i}."},
            ],
        }
        for i in range(n)
    ]


def message_rows(n=N, **changes):
    """One question and one answer each."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {i}?"},
                {"role": "assistant", "content": f"Answer {i}."},
            ],
            **changes,
        }
        for i in range(n)
    ]


def labelled_table(n=N):
    """Texts with a class label, as `datasets` keeps it."""
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )
    rows = {"text": [f"review {i} of {TOPICS[i % 6]}" for i in range(n)]}
    return datasets.Dataset.from_dict({**rows, "label": [i % 2 for i in range(n)]}, features)


def everything(data):
    """All pairs of all splits."""
    return [*data.train, *data.validation, *data.test]
