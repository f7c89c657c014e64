import pandas as pd
import pytest

from lensllm.data.docstrings import hash_text, split_of, split_shares
from lensllm.data.names import collect_names, load_names, named_functions

SHARES = {"pretrain": 0.2, "validation": 0.1, "test": 0.2, "train": 0.5}
WORDS = "apple river table cloud stone bread glass paper light chair house plant".split()  # noqa: SIM905


def function(i, name=None):
    """A function that shares no run of six words with that of another number."""
    lines = [
        f"    {WORDS[(i + k) % 12]}_{i}_{k} = {WORDS[(i + 2 * k) % 12]}({i})" for k in range(6)
    ]
    return "\n".join([f"def {name or f'cook_{i}'}(first, second):", *lines]) + "\n\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `namedpkg` with 40 modules of 5 functions, a copy of one, and a broken file."""
    root = tmp_path / "src" / "namedpkg"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    for m in range(40):
        (root / f"mod{m}.py").write_text("".join(function(5 * m + i) for i in range(5)))
    (root / "copy.py").write_text(function(0, "other_name"))
    (root / "broken.py").write_text("def f(:\n" + function(900))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))


def test_a_function_is_its_arguments_and_body_without_docstring_and_name():
    source = (
        "class Kitchen:\n"
        "    async def _feed(self, food, /, *more, amount=1, **rest):\n"
        '        """Feed somebody."""\n'
        "        for cat in self.cats:  # all of them\n"
        "            await cat.eat(food * amount)\n"
        "        return len(self.cats)\n"
    )
    (feed,) = named_functions("pkg", "pkg.mod", source)
    assert (feed.package, feed.module, feed.name) == ("pkg", "pkg.mod", "feed")
    assert feed.text == (
        "def _(food, amount):\n"
        "    for cat in self.cats:  # all of them\n"
        "        await cat.eat(food * amount)\n"
        "    return len(self.cats)"
    )


@pytest.mark.parametrize(
    "source",
    [
        function(1, "__call__"),
        function(1, "test_it"),
        function(1, "go"),
        "def cook(a):\n    return a + 1\n",
        "def cook(a):\n" + "    a = oven.heat(a, 200)\n" * 30,
        "def cook(a):\n    return super().cook(a, temperature=200, minutes=20)\n",
        "def cook(a): return heat_in_the_oven(a, temperature=200, minutes=20)\n",
        "def cook(a):\n    return heat_in_the_oven(a, 'Käse', temperature=200, minutes=20)\n",
        'def cook(a):\n    """Cook something in the oven, at 200 degrees, for 20 minutes."""\n',
        "def f(:\n",
    ],
)
def test_functions_whose_name_cannot_be_asked_for_are_left_out(source):
    assert list(named_functions("pkg", "pkg.mod", function(1)))
    assert list(named_functions("pkg", "pkg.mod", source)) == []


def test_collected_splits_share_no_module_and_no_copy(package):
    table = collect_names(["namedpkg", "no_such_package"], 1000, SHARES, 0)
    assert list(table.columns) == ["split", "package", "module", "input", "target"]
    assert len(table) == 200
    assert table["input"].is_unique
    assert set(table["split"]) == set(SHARES)
    assert [split_of(module, SHARES, 0) for module in table["module"]] == list(table["split"])
    assert list(table["input"]) == sorted(table["input"], key=hash_text)
    pd.testing.assert_frame_equal(table, collect_names(["namedpkg"], 1000, SHARES, 0))
    capped = collect_names(["namedpkg"], 30, SHARES, 0)
    assert len(capped) == 30
    assert capped["module"].nunique() > 4


def test_load_leaves_out_the_modules_of_pre_training(package, tmp_path, monkeypatch):
    options = {"pretrain_share": 0.3, "n_validation": 2, "n_test": 3, "seed": 7}
    data = load_names(tmp_path, ["namedpkg"], **options, max_target_tokens=9)
    assert (data.name, data.max_target_tokens) == ("names", 9)
    assert (len(data.validation), len(data.test)) == (2, 3)
    table = collect_names(["namedpkg"], 400, split_shares(0.3), 7)
    split = dict(zip(table["input"], table["split"], strict=True))
    for name in ("train", "validation", "test"):
        assert {split[source] for source, _ in getattr(data, name)} == {name}
    monkeypatch.setattr("lensllm.data.names.collect_names", lambda *_: pytest.fail("again"))
    assert load_names(tmp_path, ["namedpkg"], **options, max_target_tokens=9) == data


def test_too_few_functions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train pair in data set 'names', got none"):
        load_names(tmp_path, ["no_such_package"])
