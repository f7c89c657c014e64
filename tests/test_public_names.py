"""What `import lensllm` hands out."""

import ast
import inspect
from functools import cached_property
from pathlib import Path

import pytest

import lensllm
from lensllm import selectors


@pytest.mark.parametrize("name", lensllm.__all__)
def test_every_public_name_is_documented_and_what_type_checkers_see(name):
    found = getattr(lensllm, name)
    assert found.__doc__
    assert vars(lensllm)[name] is found  # kept once it was asked for


def test_the_site_shows_properties_as_they_are():
    """Text before a colon, in the first line of a property, is shown as its type."""
    classes = [
        found for found in map(lensllm.__getattr__, lensllm.__all__) if isinstance(found, type)
    ]
    properties = {
        f"{found.__name__}.{name}": inspect.getdoc(member)
        for found in classes
        for name, member in inspect.getmembers(found)
        if isinstance(member, property | cached_property)
    }
    assert len(properties) > 20
    assert [name for name, doc in properties.items() if ":" in (doc or "").split("\n")[0]] == []


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lensllm.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert imported == {
        (module, name) for module, names in lensllm._NAMES.items() for name in names
    }
    assert sorted(name for _, name in imported) == sorted(lensllm.__all__)


def test_every_selector_is_public_and_on_its_page():
    page = Path(lensllm.__file__).parents[1] / "docs" / "api" / "selectors.md"
    shown = {line.partition("lensllm.")[2] for line in page.read_text("utf-8").splitlines()}
    assert set(selectors.__all__) <= set(lensllm.__all__)
    assert set(selectors.__all__) - {"run_campaign"} <= shown  # a function, on another page


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="module 'lensllm' has no attribute 'Selectr'"):
        lensllm.Selectr  # noqa: B018


def test_the_default_selector_needs_no_arguments():
    runner = lensllm.ReplayRunner(lensllm.load_zoo().curves, "docstrings")
    budget = lensllm.make_budget(runner.task(), fraction=0.05)
    selection, curves = lensllm.run_campaign(lensllm.Adaptive(), runner, budget)
    assert selection.best.model == "llama-64x3"
    assert len(curves) > 0
