"""Who is at which trial: taken once, kept alive, taken over when the owner is gone."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lensllm.system.atomic import StorageError
from lensllm.system.claims import Claims


def test_a_claim_is_held_by_one_at_a_time(tmp_path):
    mine, other = Claims(tmp_path), Claims(tmp_path)
    with mine.hold("a") as held:
        assert held
        with other.hold("a") as second, other.hold("b") as another:
            assert (second, another) == (False, True)
        assert other.owner("a")["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    with other.hold("a") as held:
        assert held


def test_a_claim_is_given_up_when_its_block_raises(tmp_path):
    claims = Claims(tmp_path)
    with pytest.raises(KeyError), claims.hold("a"):
        raise KeyError
    assert claims.owner("a") is None


HOLD = """
import sys, time
from pathlib import Path
from lensllm.system.claims import Claims
with Claims(Path(sys.argv[1])).hold("a") as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_killed_owner_is_followed_at_once(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    claims = Claims(tmp_path)
    with claims.hold("a") as held:
        assert not held
    process.send_signal(signal.SIGKILL)
    process.wait()
    with claims.hold("a") as held:
        assert held


def foreign(path, **changes):
    """A claim of another machine, of which nothing can be known but its heartbeat."""
    owner = {"name": "x", "host": "far", "machine": "far 1", "pid": 1, "started": "1"}
    path.write_text(json.dumps({**owner, **changes}))


def test_a_claim_of_another_machine_is_taken_over_when_it_stops_beating(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("lensllm.system.claims.time.monotonic", lambda: now[0])
    claims = Claims(tmp_path, stale_seconds=30)
    path = tmp_path / "a.json"
    foreign(path)

    def is_free():
        with claims.hold("a") as held:
            return held

    assert not is_free()
    now[0] += 29
    assert not is_free()
    os.utime(path, ns=(0, 123_456_789))  # a beat, by a clock that is decades behind
    now[0] += 29
    assert not is_free()
    now[0] += 31
    assert is_free()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": "many"}', '{"machine": 3}'])
def test_a_claim_that_cannot_be_read_is_taken_over_in_time(tmp_path, monkeypatch, text):
    now = [0.0]
    monkeypatch.setattr("lensllm.system.claims.time.monotonic", lambda: now[0])
    (tmp_path / "a.json").write_text(text)
    claims = Claims(tmp_path, stale_seconds=30)
    for expected in (False, True):
        with claims.hold("a") as held:
            assert held is expected
        now[0] += 31


def test_the_owner_keeps_its_claim_fresh(tmp_path):
    claims = Claims(tmp_path, heartbeat_seconds=0.02)
    with claims.hold("a"):
        path = tmp_path / "a.json"
        os.utime(path, ns=(0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_claim_that_was_taken_over_is_not_removed_by_its_first_owner(tmp_path):
    claims = Claims(tmp_path)
    with claims.hold("a"):
        foreign(tmp_path / "a.json")
    assert claims.owner("a")["host"] == "far"


def test_without_a_folder_for_claims_work_goes_on(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with Claims(tmp_path / "file" / "claims").hold("a") as held:
        assert held
    assert "No claim can be written" in caplog.text


def _count(folder, queue, start):
    claims = Claims(folder)
    start.wait()
    for key in range(40):
        with claims.hold(str(key)) as held:
            if held and not (folder / f"{key}.done").exists():
                queue.put(key)
                time.sleep(0.001)
                (folder / f"{key}.done").touch()


def test_many_processes_never_hold_one_claim_together(tmp_path):
    context = multiprocessing.get_context("fork")
    queue, start = context.Queue(), context.Event()
    processes = [context.Process(target=_count, args=(tmp_path, queue, start)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    taken = [queue.get() for _ in range(40)]
    assert sorted(taken) == list(range(40))
    assert queue.empty()


def test_a_claim_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    real = Path.write_text

    def half(path, text, **options):
        real(path, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(StorageError, match="free some space"), Claims(tmp_path).hold("a"):
        pytest.fail("Expected no trial whose result would have no room")
    assert list(tmp_path.iterdir()) == []
