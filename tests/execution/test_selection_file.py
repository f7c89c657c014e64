import os

import pytest

from lensllm.execution.selection_file import find_selection


@pytest.fixture
def campaigns(tmp_path):
    """A failed campaign between two that ended; the folder's names are in another order."""
    folder = tmp_path / "select"
    for age, name in enumerate(("c", "b", "a")):
        (folder / name).mkdir(parents=True)
        if name != "b":
            path = folder / name / "selection.json"
            path.write_text("{}")
            os.utime(path, (1e9 - age, 1e9 - age))
    return folder


def test_a_selection_is_a_file_its_folder_or_the_latest(campaigns):
    file = campaigns / "c" / "selection.json"
    for given in ("latest", str(file), str(file.parent)):
        assert find_selection(given, campaigns) == file


@pytest.mark.parametrize("given", ["{folder}", "{folder}/TIME", "{folder}/b", "{folder}/b/TIME"])
def test_what_is_none_names_the_latest(campaigns, given):
    given = given.format(folder=campaigns)
    with pytest.raises(FileNotFoundError, match=f"which is no file: .*{campaigns}/c$"):
        find_selection(given, campaigns)


def test_without_a_campaign_there_is_no_latest(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `lensllm select` first"):
        find_selection("latest", tmp_path / "select")
