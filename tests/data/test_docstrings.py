import os
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from lensllm.data.docstrings import (
    all_docstrings,
    collect_docstrings,
    docstring_table,
    documented_items,
    hash_text,
    load_docstrings,
    package_versions,
    source_files,
    split_of,
    without_near_copies,
)

WORDS = "apple river table cloud stone bread glass paper light chair house plant".split()  # noqa: SIM905
SHARES = {"pretrain": 0.2, "validation": 0.1, "test": 0.2, "train": 0.5}


def tag(i):
    """A number in letters: summaries that differ in digits alone count as repeated."""
    return "".join("abcdefghij"[int(digit)] for digit in str(i))


def body_of(i):
    """A body that shares no run of six words with that of another number."""
    return " ".join(f"the {WORDS[(i + k) % 12]}{i}x{k} of" for k in range(12))


def function(i, summary=None, body=None, indent=""):
    summary = summary or f"Return the {WORDS[i % 12]} of a {tag(i)}."
    body = body or body_of(i)
    lines = [
        f"def f{i}(self, first, *, second=1):",
        f'    """{summary}',
        "",
        f"    {body}",
        '    """',
    ]
    return "\n".join(indent + line for line in lines) + "\n\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `fakepkg` with 40 modules of 5 documented functions, and some unusable text."""
    root = tmp_path / "src" / "fakepkg"
    (root / "sub" / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text('"""Short."""\n')
    (root / "sub" / "__init__.py").write_text("")
    for m in range(40):
        text = "".join(function(5 * m + i) for i in range(5))
        (root / "sub" / f"mod{m}.py").write_text(text)
    (root / "sub" / "tests" / "hidden.py").write_text(function(900))
    (root / "test_hidden.py").write_text(function(901))
    (root / "broken.py").write_text("def f(:\n" + function(902))
    (root / "copy.py").write_text(function(0) + function(903, summary="Return the other one."))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return root


def items(source):
    return list(documented_items("pkg", "pkg.mod", source))


def test_an_item_is_signature_body_and_summary():
    source = (
        "class Cat:\n"
        '    """Keep the name of a cat and\n'
        "    the date of its birth.\n"
        "\n"
        "    The :class:`~pkg.Name` is for *people*, and the ``date`` is for the vet in the town.\n"
        '    """\n'
        "    async def feed(self, food, /, *more, amount=1, **rest):\n"
        '        """Give the cat something to eat.\n\n'
        "        This is done in the morning, and it is done in the evening as well.\n"
        '        """\n'
    )
    cat, feed = items(source)
    assert cat.signature == "class Cat"
    assert cat.summary == "Keep the name of a cat and the date of its birth."
    assert cat.body == "The pkg.Name is for people, and the date is for the vet in the town."
    assert feed.signature == "def feed(food, amount)"
    assert (feed.package, feed.module) == ("pkg", "pkg.mod")


def test_a_module_docstring_is_an_item():
    (item,) = items('"""Read the files of a folder.\n\n' + body_of(1) + '\n"""\n')
    assert item.signature == "module"


@pytest.mark.parametrize(
    ("summary", "body"),
    [
        ("Too short.", None),
        ("Return the " + "very " * 35 + "long one.", None),
        ("Return twowords", None),
        ("123 is the number of the answer.", None),
        ("Gib die größte Zahl der Liste zurück.", None),
        ("See http://example.org for the details of it.", None),
        (">>> print the value of the call", None),
        ("Return the {name} of the caller.", None),
        ("Use the a::b of the grammar here.", None),
        ("Return the value | or the other one.", None),
        ("Return the value of the list.", "Too short a body."),
        ("Return the value of the list.", "x = 1; y[2] = {3: 4}; z += 5 * (6 - 7) ** 8; # 9" * 3),
        ("Return the value of the list.", "Lorem ipsum dolor sit amet consectetur elit " * 9),
        ("Return the value of the list.", "Die Zahl ist für alle größer, und der Wert gut. " * 2),
    ],
)
def test_unusable_text_is_left_out(summary, body):
    assert items(function(1)) != []
    assert items(function(1, summary, body)) == []


def test_source_that_does_not_parse_gives_nothing():
    for source in ("def f(:", "\x00", "(" * 5000):
        assert items(source) == []
        assert all_docstrings(source) == []


def test_all_docstrings_has_the_unusable_ones_too():
    assert all_docstrings('"""Short."""\n' + function(1, summary="Tiny one.")) == [
        "Short.",
        "Tiny one. " + items(function(1))[0].body,
    ]


def test_source_files_leave_tests_out(package):
    names = [name for name, _ in source_files("fakepkg")]
    assert names == sorted(names)
    assert {"fakepkg.__init__", "fakepkg.copy", "fakepkg.sub.mod7"} <= set(names)
    assert not any("hidden" in name for name in names)
    assert source_files("no_such_package") == []


def test_repeated_summaries_and_near_copies_are_dropped():
    (first,) = items(function(1))
    (other,) = items(function(2))
    (same_summary,) = items(function(3, summary=first.summary.upper().replace("RETURN", "Return")))
    (near_copy,) = items(function(4, body=first.body + " More text follows here at the end of it."))
    (far,) = items(function(5, body=other.body[:80] + " " + body_of(6)))
    kept = list(without_near_copies([first, same_summary, near_copy, other, far]))
    assert kept == [first, other, far]


def test_modules_are_split_by_name_and_seed():
    names = [f"pkg.mod{i}" for i in range(4000)]
    splits = [split_of(name, SHARES, 0) for name in names]
    counts = Counter(splits)
    for name, share in SHARES.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)
    assert splits == [split_of(name, SHARES, 0) for name in names]
    assert splits != [split_of(name, SHARES, 1) for name in names]
    # A zoo model is pre-trained on a split that is made with two shares only.
    two = {"pretrain": 0.2, "rest": 0.8}
    assert [split_of(n, two, 0) == "pretrain" for n in names] == [s == "pretrain" for s in splits]


def test_collected_splits_share_no_module_and_no_copy(package):
    table = collect_docstrings(["fakepkg"], 1000, SHARES, 0)
    assert list(table.columns) == ["split", "package", "module", "input", "target"]
    assert set(table["split"]) == set(SHARES)
    assert (table.groupby("module")["split"].nunique() == 1).all()
    assert len(table) == 201  # 200 functions and the one of copy.py that is not a copy
    assert table["target"].str.lower().is_unique
    assert not table["module"].str.contains("hidden|broken").any()
    row = table[table["module"] == "fakepkg.sub.mod0"].iloc[0]
    assert row["input"].startswith("def f")
    assert "): the " in row["input"]


def test_collection_is_deterministic_and_capped(package):
    first = collect_docstrings(["fakepkg"], 1000, SHARES, 0)
    pd.testing.assert_frame_equal(first, collect_docstrings(["fakepkg"], 1000, SHARES, 0))
    capped = collect_docstrings(["fakepkg"], 30, SHARES, 0)
    assert len(capped) == 30
    pd.testing.assert_frame_equal(capped, first[:30])
    assert capped["module"].nunique() > 4


def test_hashes_are_the_same_in_another_process():
    code = (
        "from lensllm.data.docstrings import split_of\n"
        f"print([split_of(f'm{{i}}', {SHARES}, 3) for i in range(50)])"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.strip() == str([split_of(f"m{i}", SHARES, 3) for i in range(50)])


def test_the_table_is_extracted_once(package, tmp_path, monkeypatch, capsys, caplog):
    cache = tmp_path / "cache"
    arguments = (["fakepkg"], 1000, 0.15, 0)
    table = docstring_table(cache, *arguments)
    assert "Extracting" in capsys.readouterr().err
    path, digest = sorted(cache.iterdir())  # nothing temporary is left
    assert path.name.startswith("docstrings-")
    assert digest.name == f"{path.name}.sha256"
    content = path.read_bytes()
    path.write_bytes(content[:-7] + b"spoiled")
    pd.testing.assert_frame_equal(docstring_table(cache, *arguments), table)
    assert "Extracting" in capsys.readouterr().err
    assert "is not as it was written" in caplog.text
    monkeypatch.setattr(
        "lensllm.data.docstrings.collect_docstrings", lambda *_: pytest.fail("extracted again")
    )
    pd.testing.assert_frame_equal(docstring_table(cache, *arguments), table)
    assert capsys.readouterr().err == ""


def test_load_gives_pairs_without_the_pre_training_modules(package, tmp_path):
    options = {"pretrain_share": 0.3, "n_validation": 2, "n_test": 3, "seed": 2}
    data = load_docstrings(tmp_path, ["fakepkg"], **options, max_input_tokens=30)
    assert data.name == "docstrings"
    assert data.max_input_tokens == 30
    assert (len(data.validation), len(data.test)) == (2, 3)
    table = docstring_table(tmp_path, ["fakepkg"], 8000, 0.3, 2)
    held_back = set(table.loc[table["split"] == "pretrain", "target"])
    used = [target for part in (data.train, data.validation, data.test) for _, target in part]
    assert held_back
    assert not held_back & set(used)
    assert len(used) == len(set(used))
    assert data == load_docstrings(tmp_path, ["fakepkg"], **options, max_input_tokens=30)


def test_libraries_are_told_from_the_same_text_in_hashed_order(package, tmp_path):
    options = {"pretrain_share": 0.3, "n_validation": 2, "n_test": 3, "seed": 2}
    summaries = load_docstrings(tmp_path, ["fakepkg"], **options)
    data = load_docstrings(tmp_path, ["fakepkg"], **options, target="package")
    assert data.name == "libraries"
    assert {target for _, target in data.train} == {"fakepkg"}
    inputs = [source for source, _ in data.train]
    assert sorted(inputs) == sorted(source for source, _ in summaries.train)
    assert inputs == sorted(inputs, key=hash_text)
    with pytest.raises(ValueError, match="`target` to be summary or package, got 'module'"):
        load_docstrings(tmp_path, ["fakepkg"], target="module")


def test_too_few_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train pair in data set 'docstrings', got none"):
        load_docstrings(tmp_path, ["no_such_package"])


def test_versions_name_the_installed_packages():
    versions = package_versions(["stdlib", "numpy", "no_such_package"])
    assert versions["stdlib"] == ".".join(map(str, sys.version_info[:3]))
    import numpy

    assert versions["numpy"] == f"numpy {numpy.__version__}"
    assert "no_such_package" not in versions
