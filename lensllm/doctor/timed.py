"""Checks in a process of its own, which is ended when the time is up, whatever it is doing."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from lensllm.doctor.findings import Finding
from lensllm.system.interrupts import children_without_interrupts, end_with

Findings = Callable[[int], Iterator[Finding]]


def timed_findings(topics: Sequence[str], findings: Findings, minutes: float) -> Iterator[Finding]:
    """Findings of checks that together take at most so long.

    A check that is under way when the time is up is ended with its process. A process that dies by
    itself (in a driver, say, or for lack of memory) breaks the check that it was at, and another
    one goes on with the next.

    Args:
        topics: What the checks are about, in their order.
        findings: Makes their findings from a position on; it is sent to the process.
        minutes: The time.

    Yields:
        One finding for each topic, as soon as it is there.
    """
    until, done = time.monotonic() + 60.0 * minutes, 0
    while done < len(topics) and time.monotonic() < until:
        with _process(findings, done) as (process, connection):
            while done < len(topics) and connection.poll(max(0.0, until - time.monotonic())):
                finding = _received(connection)
                if finding is None:
                    process.join()
                    words = f"its process died with exit code {process.exitcode}"
                    yield Finding(topics[done], "broken", words, "report it with doctor.json")
                    done += 1
                    break
                yield finding
                done += 1
            else:
                if done < len(topics):
                    words = f"ended after {minutes:g} minutes for all checks"
                    yield Finding(topics[done], "note", words, _MORE)
                    done += 1
    for topic in topics[done:]:
        yield Finding(topic, "note", "not run: the time is up", _MORE)


_MORE = "minutes=20 takes longer"


@contextlib.contextmanager
def _process(findings: Findings, first: int) -> Iterator[tuple[Any, Connection]]:
    context = multiprocessing.get_context("spawn")  # a fork would share CUDA and threads
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, findings, first))
    with children_without_interrupts():
        process.start()
    there.close()
    try:
        yield process, here
    finally:
        here.close()
        process.terminate()
        process.join(2.0)
        process.kill()
        process.join()


def _received(connection: Connection) -> Finding | None:
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None


def _send(connection: Connection, findings: Findings, first: int) -> None:
    """The main function of the process."""
    parent = multiprocessing.parent_process()
    end_with(None if parent is None else parent.pid)
    with contextlib.suppress(BrokenPipeError):
        for finding in findings(first):
            connection.send(finding)
