"""Model folders by their paths: names that tell them apart, and folders that look like Hub ids."""

import logging
import shutil

import pytest

from lensllm.finetune.candidates import as_sources
from lensllm.finetune.models import ModelSource


@pytest.fixture
def folders(tmp_path, monkeypatch, model_folders):
    monkeypatch.chdir(tmp_path)
    for name in (
        "runs/a/checkpoint-500",
        "runs/b/checkpoint-500",
        "gpt2",
        "models/mine",
        "größe (v2) #1, a=b",
    ):
        shutil.copytree(model_folders["gpt2"], tmp_path / name)
    return tmp_path


def test_two_folders_of_one_name_are_told_apart(folders):
    sources = as_sources(["runs/a/checkpoint-500", f"{folders}/runs/b/checkpoint-500", "gpt2"])
    assert [s.name for s in sources] == ["a/checkpoint-500", "b/checkpoint-500", "gpt2"]
    assert as_sources(["runs/a/checkpoint-500"])[0].name == "checkpoint-500"
    with_adapters = as_sources(["runs/a/checkpoint-500+lora", "runs/b/checkpoint-500+lora"])
    assert [s.name for s in with_adapters] == ["a/checkpoint-500+lora", "b/checkpoint-500+lora"]


def test_names_that_are_told_apart_higher_up(folders):
    shutil.copytree(folders / "runs", folders / "older")
    sources = as_sources(
        [f"{top}/{run}/checkpoint-500" for top in ("runs", "older") for run in "ab"]
    )
    assert [s.name for s in sources] == [
        "runs/a/checkpoint-500", "runs/b/checkpoint-500",
        "older/a/checkpoint-500", "older/b/checkpoint-500",
    ]  # fmt: skip


def test_one_folder_twice_and_given_names_stay_as_they_are(folders):
    assert [s.name for s in as_sources(["gpt2", "./gpt2"])] == ["gpt2", "gpt2"]
    named = [ModelSource("runs/a/checkpoint-500", name="x"), ModelSource("gpt2", name="x")]
    assert [s.name for s in as_sources(named)] == ["x", "x"]


def test_a_folder_that_shadows_a_hub_id_is_told(folders, caplog):
    with caplog.at_level(logging.WARNING):
        assert ModelSource("gpt2", revision="main").commit is None
    assert f"from the folder {folders / 'gpt2'} here, not from the Hub" in caplog.text
    assert "revision main is ignored" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for source in ("./gpt2", f"{folders}/gpt2", "gpt2-48x2", "models/mine"):
            assert ModelSource(source).commit is None
    assert caplog.text == ""


def test_marks_and_the_home_folder_in_paths(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(folders))
    source = ModelSource("größe (v2) #1, a=b")
    assert source.name == "größe (v2) #1, a=b"
    assert source.config.model_type == "gpt2"
    assert ModelSource("~/gpt2").location == f"{folders}/gpt2"
    assert ModelSource("~/gpt2").name == "gpt2"
