import pytest

from tests.reports.campaigns import HOSTILE, write_campaign


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A finished campaign with its report."""
    return write_campaign(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory):
    """The same whose candidates have names that attack, or that are hard to show."""
    return write_campaign(tmp_path_factory.mktemp("hostile"), HOSTILE)
