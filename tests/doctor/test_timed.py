"""Checks in a process of their own."""

import os
import time
from functools import partial

import pytest

from lensllm.doctor.findings import Finding
from lensllm.doctor.timed import timed_findings

TOPICS = ("a", "b", "c", "d")


def checks(at, what, first):
    """Findings, of which one does not come."""
    for topic in TOPICS[first:]:
        if topic == at:
            os._exit(3) if what == "dies" else time.sleep(60)
        yield Finding(topic, "ok", "fine", numbers={"pid": os.getpid()})


@pytest.mark.slow
def test_a_check_that_takes_too_long_is_ended_and_the_others_are_not_run():
    start = time.monotonic()
    found = list(timed_findings(TOPICS, partial(checks, "c", "hangs"), 10.0 / 60.0))
    assert time.monotonic() - start < 20.0
    assert [f.topic for f in found] == list(TOPICS)
    assert [f.level for f in found] == ["ok", "ok", "note", "note"]
    assert found[2].text == "ended after 0.166667 minutes for all checks"
    assert found[3].text == "not run: the time is up"
    assert found[0].numbers["pid"] != os.getpid()


@pytest.mark.slow
def test_after_a_check_in_which_a_process_dies_another_goes_on():
    found = list(timed_findings(TOPICS, partial(checks, "b", "dies"), 5.0))
    assert [f.level for f in found] == ["ok", "broken", "ok", "ok"]
    assert found[1].text == "its process died with exit code 3"
    assert found[0].numbers["pid"] != found[2].numbers["pid"] == found[3].numbers["pid"]


def test_without_time_nothing_is_run():
    found = timed_findings(TOPICS, partial(checks, "a", "hangs"), -1.0)
    assert [f.text for f in found] == ["not run: the time is up"] * 4
