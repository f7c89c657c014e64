"""Lines and bars of long work."""

import io
import logging
import os
import pty
import signal
import sys

import pytest
from rich.console import Console

from lensllm.system.progress import LongWork, not_progress, tracked


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="lensllm.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def test_without_a_terminal_there_are_lines_on_the_console_and_in_the_log(lines):
    stream = io.StringIO()
    with LongWork("judging", Console(file=stream), seconds_per_line=0.0) as work:
        work("[a]\x1b[0m", 1, 4)
    assert stream.getvalue().splitlines() == lines()
    start, middle, end = lines()
    assert start == "judging"
    assert middle.startswith(r"judging 1 of 4: [a]\x1b[0m; 0 s so far, about 0 s left")
    assert end == "judging: done after 0 s"


def test_lines_come_once_a_minute(lines):
    with LongWork("judging", Console(file=io.StringIO())) as work:
        for done in range(100):
            work("cell", done, 100)
    assert len(lines()) == 2


def test_on_a_terminal_there_is_a_bar_and_the_lines_are_in_the_log_alone(lines):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)

    def work_and_fail():
        with LongWork("judging", console) as work:
            work("cell", 2, 4)
            raise KeyError

    with pytest.raises(KeyError):
        work_and_fail()
    assert "judging 2 of 4: cell" in stream.getvalue()
    assert lines() == ["judging", "judging: ended by an error after 0 s"]


def test_tracked_items_are_the_same_and_told(lines, capsys):
    assert list(tracked(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == ["counting", "counting: done after 0 s"]


def test_lines_of_progress_are_kept_from_the_terminals_handlers():
    record = logging.LogRecord("lensllm.progress", logging.INFO, "", 0, "x", (), None)
    assert not not_progress(record)
    record.name = "lensllm.progress_of_others"
    assert not_progress(record)


BUSY = """
import lensllm.system.guarded, time
from rich.console import Console
from lensllm.system.interrupts import ended_by_signals
from lensllm.system.progress import LongWork
with ended_by_signals(), LongWork("counting", Console(force_terminal=True)) as work:
    while True:
        work("sheep")
        time.sleep(0.01)
"""


def test_ctrl_c_is_told_while_a_bar_is_shown_and_the_cursor_comes_back():
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a background job may ignore
        os.execv(sys.executable, [sys.executable, "-c", BUSY])
    seen = b""
    while b"sheep" not in seen:
        seen += os.read(terminal, 65536)
    os.kill(process, signal.SIGINT)
    try:
        while part := os.read(terminal, 65536):
            seen += part
    except OSError:  # the other end is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    assert b"Interrupted; finished trials" in seen
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") == 1  # hidden, shown
