"""What people write behind `dataset.path=`, `candidates.models=` and `training.prompt=`."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lensllm.commands.command_line import as_meant


def value_of(word):
    """What Hydra understands of a word of the command."""
    override = OverridesParser.create().parse_override(as_meant([word])[0])
    return (
        [item.text for item in override.value().list]
        if override.is_sweep_override()
        else (override.value())
    )


@pytest.mark.parametrize(
    "path",
    [
        "a=b.csv", "pairs (v2).jsonl", "a#b.csv", "größe/ünï.jsonl", "数据.jsonl", "it's.csv",
        'say "x".csv', "C:\\data\\", "a\\'b", "d/**/part-[0-9]*.jsonl.gz", "x y.csv", "50%.csv",
        "a:b.csv", "a&b;c!.csv", "1.10", "{x}.csv", "[ab]*.csv",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["dataset.path", "model.source", "+benchmark.path", "curves"])
def test_paths_are_taken_as_they_are_written(key, path):
    assert value_of(f"{key}={path}") == path
    assert as_meant(as_meant([f"{key}={path}"])) == as_meant([f"{key}={path}"])


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert value_of("dataset.path=~/a.csv") == "/home/ann/a.csv"
    assert value_of("paths.store_dir=~") == "/home/ann"
    assert value_of("candidates.models=[~/a,b]") == ["/home/ann/a", "b"]


def test_a_comma_is_a_sweep_unless_the_file_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert value_of("dataset.path=a (1).csv,b.csv") == ["a (1).csv", "b.csv"]
    (tmp_path / "a,b.csv").touch()
    assert value_of("dataset.path=a,b.csv") == "a,b.csv"


@pytest.mark.parametrize("key", ["candidates.models", "models", "datasets", "replay.models"])
def test_names_that_are_numbers_or_have_marks_stay_texts(key):
    names = ["1.10", "1.1", "7", "007", "1e3", "qwen#1", "a=b", "true", "x (2)"]
    assert value_of(f"{key}=[{','.join(names)}]") == names
    assert value_of(f"{key}=['a, b',\"7\"]") == ["a, b", "7"]


def test_one_name_stays_a_text():
    assert value_of("model.name=1.10") == "1.10"
    assert value_of("dataset.name=007") == "007"
    assert value_of("replay.dataset=2024") == "2024"


def test_a_new_line_in_a_prompt_is_one():
    for word in (r"training.prompt=Q: {input}\nA: ", r"training.prompt='Q: {input}\nA: '"):
        assert value_of(word) == "Q: {input}\nA: "
    assert value_of(r"training.prompt={input}\t\\nabla") == "{input}\t\\nabla"
    assert value_of('dataset.input="Title: {title}, {text}"') == "Title: {title}, {text}"
    assert value_of("dataset.join=, ") == ", "


@pytest.mark.parametrize(
    "word",
    [
        "seed=1", "dataset=file", "~candidates.models.x", "-m", "--config-dir=~/x",
        "hardware.price_per_hour=1.5",
        "dataset.name=null", "law.name='x'", "dataset.path=${oc.env:HOME}/a",
        "model.source=choice(a,b)", "n_samples={a: 3}", "optimizer.lr=1e-3", "models=null",
        "candidates.models=[{source: x, dtype: float32}]",
    ],
)  # fmt: skip
def test_the_rest_is_left_to_hydra(word):
    assert as_meant([word]) == [word]
