"""Ctrl-C and `kill`: a process reports it once, cleans up, and ends with the right exit code.

Python raises `KeyboardInterrupt` wherever the main thread happens to be, and the code there may
swallow it: Lightning turns it into exit code 1 without a word, a destructor or a callback drops it,
native code does not see it. Here the signal itself is handled until the process ends, see
`SignalGuard`.

Entry points do so before they import anything else (see `lensllm.system.guarded`), so that
this module needs nothing but a little of the standard library.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

ENDINGS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}
if hasattr(signal, "SIGUSR1"):  # what schedulers are asked to send before a time limit
    ENDINGS[signal.SIGUSR1] = "Preempted"
GRACE_SECONDS = 5.0
SAVE_SECONDS = 20.0  # for a step of training and a checkpoint; Slurm kills 30 s after SIGTERM
CHILD_GRACE_SECONDS = 1.0
NUDGE_SECONDS = 0.2
POLL_SECONDS = 0.2
TELL_SECONDS = 1.0
REPEAT_SECONDS = 0.3  # `timeout -s INT` sends a signal twice in a row: no second Ctrl-C
# Reminds the main thread. By default it is ignored, and it is never taken for a second Ctrl-C.
NUDGE = signal.SIGURG
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first_rank() -> bool:
    """Whether this process reports: it is alone, or the first of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


class Ended(SystemExit):
    """What a signal raises; nobody but the guard should catch it."""


class SignalGuard:
    """Ends this process at a signal, whatever it is doing, with exit code 128 + signal.

    The first signal is reported in one line on stderr and raises `Ended` in the main thread, so
    that `finally` blocks run. If that is swallowed (by a destructor, a bare `except`), it is raised
    again. After the grace period a thread ends the process in any case, with its children: the main
    thread may be inside native code. A second signal does so at once. A signal that was ignored
    when the process started stays ignored.

    Within `saved_first`, what ends a process from outside (SIGTERM, SIGUSR1) raises `Ended` only
    after a checkpoint, or when there was none within `save_seconds`. There a process that another
    one owns waits for its checkpoint whatever else comes: its owner decides when to kill it, and a
    scheduler may send the same signal to both.

    Args:
        tells: Whether to report it; of several processes that train together only the first does.
        grace: Seconds for cleaning up.
        raises: Whether there is anything to clean up; if not, the process ends at once.
        save_seconds: Seconds for a step of training and a checkpoint.
        is_owned: Whether another process of this machine has started it, and ends it.
    """

    def __init__(
        self,
        tells: bool = True,
        grace: float = GRACE_SECONDS,
        raises: bool = True,
        save_seconds: float = SAVE_SECONDS,
        is_owned: bool = False,
    ) -> None:
        self.tells = tells and is_first_rank()
        self.grace = grace
        self.save_seconds = save_seconds
        self.is_owned = is_owned
        self.raises = self._entered = raises
        self.received: int | None = None
        self.saves = False  # whether a checkpoint comes before the end
        self._save_until = 0.0
        self._process = os.getpid()
        self._first = threading.Lock()  # taken by whoever sees the first signal first
        self._told = threading.Event()
        self._first_at = 0.0
        self._is_lifted = False
        self._handlers: dict[int, Any] = {}
        # A thread reads there the number of every signal, also while the main thread cannot.
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def install(self) -> SignalGuard:
        """Install the signal handlers; in the main thread only."""
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._handle)
        self._handlers[NUDGE] = signal.signal(NUDGE, self._handle)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        atexit.register(self._finish)
        return self

    def lift(self) -> None:
        """Restore the previous signal handlers."""
        atexit.unregister(self._finish)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        sys.unraisablehook = self._hook
        self._is_lifted = True
        os.write(self._write, b"\0")  # wakes the thread, also while a fork has the pipe open
        os.close(self._write)

    def enter(self) -> None:
        """From here on there is something to clean up."""
        self.raises = self._entered = True

    @property
    def exit_code(self) -> int | None:
        """128 + the signal that came first; `None` as long as none has come."""
        return None if self.received is None else 128 + self.received

    def end_after(self, owner: int) -> None:
        """Wait for another process to end, then end this one."""
        while _is_running(owner):
            time.sleep(POLL_SECONDS)
        os.kill(self._process, signal.SIGTERM)
        time.sleep(CHILD_GRACE_SECONDS / 2.0)  # nothing waits for what this process might still do
        self._end()

    def wait_for_others(self, save_seconds: float) -> float:
        """Seconds that processes of this one get to end, for which it then waits itself.

        Args:
            save_seconds: Seconds that they get for their checkpoints at a preemption.

        Returns:
            These and a moment more; the moment alone after Ctrl-C, and where no signal has come.
        """
        if self.received in (None, signal.SIGINT):
            return 2.0 * CHILD_GRACE_SECONDS
        seconds = save_seconds + CHILD_GRACE_SECONDS
        self._save_until = max(self._save_until, time.monotonic() + seconds)
        return seconds

    def _handle(self, number: int, frame: object) -> None:
        """Raise `Ended`, or end the process where nothing is to clean up; in the main thread."""
        if number != NUDGE:
            self._begin(number)
            if not self.raises:
                self._end()
        ends = self.raises and self.received is not None and not self._is_saving()
        if ends and not _is_handled(Ended):
            raise Ended(self.exit_code)

    def _is_saving(self) -> bool:
        return self.saves and time.monotonic() < self._save_until

    def _watch(self) -> None:
        """Wait for a signal, then for the main thread to end the process; else end it here."""
        number: int | None = NUDGE
        while number not in ENDINGS:
            number = self._next_signal()
            if number is None:
                return
        self._begin(number)
        until = time.monotonic() + (self.grace if self._entered else 0.0)
        while time.monotonic() < max(until, self._save_until and self._save_until + self.grace):
            number = self._next_signal(NUDGE_SECONDS)
            if number is None:
                return
            if number in ENDINGS and self._is_second():
                break
            if number == 0:
                signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)
        self._end()

    def _is_second(self) -> bool:
        """Whether a signal that has come is a second wish to end, and one that counts."""
        if self.is_owned and self._is_saving():
            return False
        return time.monotonic() > self._first_at + REPEAT_SECONDS

    def _next_signal(self, seconds: float | None = None) -> int | None:
        """Number of the next signal, 0 if none has come in time, `None` if the guard is lifted."""
        if not self._is_lifted and not select.select([self._read], [], [], seconds)[0]:
            return 0
        byte = b"" if self._is_lifted else os.read(self._read, 1)
        if byte and not self._is_lifted:
            return byte[0]
        os.close(self._read)
        return None

    def _begin(self, number: int) -> None:
        if self._first.acquire(blocking=False):
            if self.saves and (self.is_owned or number != signal.SIGINT):
                self._save_until = time.monotonic() + self.save_seconds
            self._first_at = time.monotonic()
            self.received = number
            if self.tells:
                _tell(number)
            self._told.set()

    def _unraisable(self, unraisable: Any) -> None:
        """Do not report an interrupted destructor: the exception is raised again after it."""
        if not issubclass(unraisable.exc_type, Ended):
            self._hook(unraisable)

    def _finish(self) -> None:
        """After a signal, skip the interpreter's shutdown, which takes seconds to free memory."""
        if self.exit_code is not None:
            self._told.wait(TELL_SECONDS)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self.exit_code)

    def _end(self) -> None:
        self._told.wait(TELL_SECONDS)  # another thread may have begun, and be about to report
        end_children()
        os._exit(self.exit_code or 1)


def _is_handled(kind: type[BaseException]) -> bool:
    """Whether an `except` or `finally` block runs because of such an exception."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is not None


def message(number: int) -> str:
    """The line that reports a signal.

    Example:
        >>> message(signal.SIGINT)
        'Interrupted; finished trials, if any, are in the store.'
    """
    return f"{ENDINGS[signal.Signals(number)]}; finished trials, if any, are in the store."


def _tell(number: int) -> None:
    """Write the message to standard error, whose buffer the signal may have interrupted."""
    text = message(number) + "\n"
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is sys.__stderr__:
            os.write(2, text.encode())
        else:
            sys.stderr.write(text)


_guard: SignalGuard | None = None


def _hold_signals() -> None:
    """A signal waits while the process forks: the fork, with its pipe, is not yet on its own."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _leave_to_parent() -> None:
    """A fork ends at signals as if there were no guard, and its parent does not hear of them."""
    global _guard
    if _guard is not None:
        signal.set_wakeup_fd(-1)
        for number in _guard._handlers:
            signal.signal(number, signal.SIG_DFL)
        _guard = None
    _let_signals()


_forking = threading.local()
os.register_at_fork(
    before=_hold_signals, after_in_parent=_let_signals, after_in_child=_leave_to_parent
)


def guard_process() -> None:
    """Handle signals from here to the end of this process; in the main thread."""
    global _guard
    if _guard is None:
        _guard = SignalGuard(raises=False).install()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A block that, after a signal, always ends in `SystemExit` with the signal's exit code."""
    global _guard
    guard, here = _guard, None
    if guard is None and threading.current_thread() is threading.main_thread():
        guard = here = _guard = SignalGuard().install()
    try:
        if guard is not None:
            guard.enter()
        yield
    except KeyboardInterrupt:  # not from a signal, which raises `Ended`
        if guard is None or guard.received is None:
            _tell(signal.SIGINT)
            raise SystemExit(128 + signal.SIGINT) from None
    finally:
        if guard is not None:
            guard.raises = False  # there is nothing more to clean up
            if guard.received is not None:
                end_children()
            if here is not None:
                _guard = None
                here.lift()
            if guard.received is not None:
                raise Ended(guard.exit_code)


def leave_if_ended() -> None:
    """Raise `SystemExit` again if a signal has come, even if the first one was swallowed."""
    if _guard is not None and _guard.exit_code is not None:
        raise Ended(_guard.exit_code)


@contextlib.contextmanager
def saved_first(saves: bool = True) -> Iterator[None]:
    """A block of training in which a preemption waits for a checkpoint, see `SignalGuard`.

    Whoever writes the checkpoints asks `is_ending` after each step, and then calls
    `leave_if_ended`.

    Args:
        saves: Whether checkpoints are written at all.
    """
    guard = _guard
    if not saves or guard is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = guard.saves
    guard.saves = True
    try:
        yield
    finally:
        guard.saves = before
        leave_if_ended()


def keep_handlers() -> None:
    """Put back this module's signal handlers, where a library has put its own in front."""
    if _guard is not None and threading.current_thread() is threading.main_thread():
        for number in _guard._handlers:
            signal.signal(number, _guard._handle)


def is_ending() -> bool:
    """Whether a signal has come that ends this process."""
    return _guard is not None and _guard.received is not None


def seconds_to_end(save_seconds: float) -> float:
    """Seconds that processes of this one get to end, see `SignalGuard.wait_for_others`."""
    return 2.0 * CHILD_GRACE_SECONDS if _guard is None else _guard.wait_for_others(save_seconds)


def end_with(owner: int | None, save_seconds: float = CHILD_GRACE_SECONDS) -> None:
    """End this process when the process that it works for, on this machine, has ended.

    It is told to stop as by `kill`, and ended for good a moment later. Ctrl-C in a terminal reaches
    both processes; here it is ignored, since the owner decides.

    Args:
        owner: Number of the other process; `None` where there is none.
        save_seconds: Seconds for a checkpoint where the owner, still there, ends this process.
    """
    global _guard
    if owner is None or _guard is not None:  # a process of joblib's comes here at every job
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    guard = _guard = SignalGuard(
        tells=False, grace=CHILD_GRACE_SECONDS, save_seconds=save_seconds, is_owned=True
    ).install()
    threading.Thread(target=guard.end_after, args=(owner,), name="owner", daemon=True).start()


@contextlib.contextmanager
def children_without_interrupts() -> Iterator[None]:
    """Processes that are started inside never see Ctrl-C, not even before they can ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_children() -> None:
    """End all descendants of this process: they are asked to end first, and then killed."""
    _end({pid for pid in _descendants([os.getpid()]) if not _cleans_up(pid)})


def end_session(leader: int) -> None:
    """End the processes of a session, and those that they have started, as `end_children` does.

    Args:
        leader: Number of the session's first process, which may have ended before.
    """
    members = [pid for pid, status in _processes() if int(status[3]) == leader]
    _end({*members, *_descendants(members)})


def _end(children: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + 1.5 * CHILD_GRACE_SECONDS
        while (children := set(filter(_is_running, children))) and time.monotonic() < until:
            time.sleep(0.02)


def _descendants(ancestors: Sequence[int]) -> list[int]:
    """Processes that these have started, those that they have, and so on."""
    children: dict[int, list[int]] = {}
    for pid, status in _processes():
        children.setdefault(int(status[1]), []).append(pid)
    found = [child for pid in ancestors for child in children.get(pid, ())]
    for pid in found:  # grows on the way
        found.extend(children.get(pid, ()))
    return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Numbers of all processes of this machine, with `_status`; none where it has no `/proc`."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and (status := _status(int(name))):
            yield int(name), status


def _cleans_up(pid: int) -> bool:
    """Whether a process frees what its parents leave behind, and ends by itself after them."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return b"resource_tracker" in stream.read()
    except OSError:
        return False


def _is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, waited for or not."""
    if os.path.isdir("/proc/self"):
        fields = _status(pid)
        return fields is not None and fields[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _status(pid: int) -> list[str] | None:
    """State, parent, group and session of a process, as they follow its name in `/proc`."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return None
