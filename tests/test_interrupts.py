"""Ctrl-C and kill at any moment: the exit code, the message once, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lensllm.core.trials import TrialStore
from lensllm.system.interrupts import children_without_interrupts

ROOT = Path(__file__).resolve().parents[1]
TOLD = "Interrupted; finished trials, if any, are in the store.\n"
GUARDED = """
import os, subprocess, sys, time
from lensllm.system.interrupts import GRACE_SECONDS, ended_by_signals, guard_process
guard_process()
def ready(): print("ready", flush=True)
def rest():
    while True: time.sleep(0.01)
"""


def _default_signals():
    """As in a terminal: what shells start in the background ignores Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path):
    """Start Python as the leader of its own session; what is left of that is killed at the end."""
    started = []

    def run(*arguments, **options):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **{"preexec_fn": _default_signals, **options},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for pid in session(process):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def session(process):
    """Processes of the session that a process leads, itself included, that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, leader = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(leader) == process.pid and state not in "ZX":
            found.append(int(folder.name))
    return found


def wait_until(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def interrupted(process, number=signal.SIGINT):
    """Send it a signal: what it says on standard error, and after how many seconds it has ended."""
    start = time.monotonic()
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    return error, time.monotonic() - start


@pytest.fixture
def guarded(start):
    """A small program within the guard, once it is ready."""

    def run(body, **options):
        body = textwrap.indent(textwrap.dedent(body), "    ")
        process = start("-c", f"{GUARDED}\nwith ended_by_signals():\n{body}", **options)
        assert process.stdout.readline() == "ready\n"
        return process

    return run


@pytest.mark.parametrize(
    "body",
    [
        "ready(); rest()",
        # A destructor, in which Python drops whatever is raised.
        """
        class Dropped:
            def __del__(self):
                ready(); rest()
        del [Dropped()][0]
        rest()
        """,
        # A library that carries on without what it was about to import.
        """
        try:
            ready(); rest()
        except:
            pass
        rest()
        """,
        """
        try:
            ready(); rest()
        except BaseException:
            raise ValueError("Expected no interrupt")
        """,
        """
        try:
            ready(); rest()
        finally:
            sys.exit(1)
        """,
    ],
    ids=["plain", "destructor", "swallowed", "another error", "another exit code"],
)
def test_whatever_becomes_of_an_interrupt_it_is_told_once_and_ends_with_130(guarded, body):
    process = guarded(body)
    error, seconds = interrupted(process)
    assert (process.returncode, error) == (130, TOLD)
    assert seconds < 3.0  # long before the grace time is over
    assert not session(process)


def test_cleaning_up_is_done_and_not_interrupted(guarded, tmp_path):
    process = guarded(
        """
        try:
            ready(); rest()
        finally:
            for i in range(100): time.sleep(0.01)
            open("cleaned", "x").close()
        """
    )
    assert interrupted(process)[0] == TOLD
    assert process.returncode == 130
    assert (tmp_path / "cleaned").exists()


def test_native_code_is_ended_after_the_grace_time_and_at_once_by_a_second_signal(guarded):
    native = "import hashlib; ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    process = guarded(f"import lensllm.system.interrupts as i; i._guard.grace = 1.0; {native}")
    time.sleep(0.5)  # until it is there
    error, seconds = interrupted(process)
    assert (process.returncode, error) == (130, TOLD)
    assert 0.9 < seconds < 4.0

    process = guarded(f"import lensllm.system.interrupts as i; i._guard.grace = 60.0; {native}")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    error, seconds = interrupted(process)
    assert (process.returncode, error) == (130, TOLD)
    assert seconds < 4.0

    process = guarded(
        """
        try:
            ready(); rest()
        finally:
            ready(); rest()
        """
    )
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.4)  # just as it is reminded of the first one, which must not hide the second
    error, seconds = interrupted(process)
    assert (process.returncode, error) == (130, TOLD)
    assert seconds < 2.0


def test_a_forked_child_that_is_terminated_does_not_end_its_parent(guarded):
    process = guarded(
        """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=rest)
        child.start()
        child.terminate()
        child.join()
        ready()
        time.sleep(0.5)
        print("went on", flush=True)
        """
    )
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (0, "went on\n", "")


def test_children_end_with_an_interrupted_process(guarded):
    process = guarded(
        """
        sleep = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
        subprocess.Popen([sys.executable, "-c", sleep])
        while subprocess.run(["pgrep", "-s", "0", "sleep"], stdout=-3).returncode: time.sleep(0.05)
        ready(); rest()
        """
    )
    assert len(session(process)) == 3
    assert interrupted(process)[0] == TOLD
    assert process.returncode == 130
    assert not session(process)


def test_kill_is_told_as_well_and_what_was_ignored_stays_ignored(guarded):
    process = guarded("ready(); rest()")
    error, _ = interrupted(process, signal.SIGTERM)
    assert (process.returncode, error) == (
        143,
        "Terminated; finished trials, if any, are in the store.\n",
    )
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = guarded("ready(); time.sleep(0.5)", **ignore)
    assert interrupted(process)[0] == ""
    assert process.returncode == 0
    with children_without_interrupts():
        process = guarded("ready(); time.sleep(0.5)")
    assert interrupted(process)[0] == ""
    assert process.returncode == 0


def test_one_of_several_processes_that_train_together_tells(guarded, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    process = guarded("ready(); rest()")
    assert interrupted(process)[0] == ""
    assert process.returncode == 130


@pytest.mark.parametrize("by_signal", [False, True], ids=["exception", "signal"])
def test_within_python_an_interrupt_is_an_exit_and_the_signals_are_given_back(
    run_main, jsonl_300, tmp_path, monkeypatch, request, by_signal
):
    from scripts.train import main

    # As in a terminal: what shells start in the background ignores Ctrl-C.
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, given))
    interrupt = _send_interrupt if by_signal else _raise_interrupt
    monkeypatch.setattr("lensllm.execution.finetune.run_trial", interrupt)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = run_main(
        main,
        "model=gpt2-48x2",
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        "n_samples=16",
        "logger=none",
        f"paths.output_dir={tmp_path}",
    )
    assert (done.code, done.err) == (130, TOLD)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not list(tmp_path.glob("trials/*.json"))


def _raise_interrupt(*_, **__):
    raise KeyboardInterrupt


def _send_interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def campaign(jsonl_300, tmp_path):
    """Arguments of a small campaign of eight trials, and the folder of what it finds."""

    def make(name, *overrides):
        out = tmp_path / name
        return out, [
            "candidates=custom",
            "candidates.models=[gpt2-48x2,llama-64x3]",
            "dataset=jsonl",
            f"dataset.path={jsonl_300}",
            "dataset.max_input_tokens=48",
            "dataset.max_evaluation=20",
            "logger=none",
            "trainer.enable_progress_bar=false",
            "training.max_epochs=2",
            "training.n_evaluations=2",
            "n_samples_full=192",
            "sizes=[12,24,48,96]",
            "selector=every_size",
            "budget.fraction=5",
            f"paths.output_dir={out}",
            f"hydra.run.dir={out / 'run'}",
            *overrides,
        ]

    return make


def ranking(out):
    """Models and the losses that were seen of each, as a campaign has written them."""
    record = json.loads((out / "run" / "selection.json").read_text())
    return [
        (entry["model"], [point["test_loss"] for point in entry["observed"]])
        for entry in record["ranking"]
    ]


@pytest.mark.slow
def test_a_campaign_is_interrupted_on_the_way_and_ends_as_if_it_had_not_been(
    start, run_main, campaign
):
    from scripts.select_model import main

    out, arguments = campaign("interrupted")
    store = TrialStore(out / "trials")
    moments = {
        "importing": lambda: True,
        "composed": lambda: (out / "run" / ".hydra" / "config.yaml").exists(),
        "training": lambda: (out / "trials").exists(),
        "a trial is stored": lambda: len(list(store.results())) >= 3,
    }
    for name, reached in moments.items():
        process = start(ROOT / "scripts" / "select_model.py", *arguments)
        wait_until(reached)
        time.sleep(0.3)
        error, seconds = interrupted(process)
        assert (process.returncode, error) == (130, TOLD), name
        assert seconds < 10.0
        assert not session(process)
    finished = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
    assert 3 <= len(finished) < 8
    assert len(list(store.results())) == len(finished)

    done = run_main(main, *arguments)
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    whole, arguments = campaign("whole")
    assert run_main(main, *arguments).code == 0
    assert ranking(out) == ranking(whole)


# Trials that never leave native code; the module is imported by the processes of the pool as well.
ENDLESS_POOL = """
from lensllm.system.interrupts import ended_by_signals, guard_process
import hashlib, os, sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from lensllm.execution.pool import PoolExecutor
from lensllm.core.trials import Trial

class Endless:
    def run(self, trial):
        Path(f"{trial.model}.began").touch()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

if __name__ == "__main__":
    guard_process()
    with ended_by_signals(), closing(PoolExecutor(n_workers=2)) as executor:
        runner = Endless()
        for name in "ab":
            executor.start(runner, Trial(name, "toy", 10))
        executor.next()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_of_a_pool_end_with_their_parent(start, tmp_path, number):
    (tmp_path / "pool.py").write_text(ENDLESS_POOL)
    process = start("pool.py")
    wait_until(lambda: len(list(tmp_path.glob("*.began"))) == 2)
    assert len(session(process)) >= 3  # it, two processes, and what cleans up after all
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
    process.wait(timeout=120)
    since = time.monotonic()
    wait_until(lambda: not session(process), 10.0)
    assert time.monotonic() - since < 2.0
    killed = number == signal.SIGKILL
    assert process.communicate(timeout=120)[1] == ("" if killed else TOLD)
    assert process.returncode == (-number if killed else 130)


# Trials whose steps take a while; at a preemption each saves after its step, and then ends.
SAVING_POOL = """
from lensllm.system.interrupts import ended_by_signals, guard_process
import sys, time
from contextlib import closing
from pathlib import Path
from lensllm.execution.pool import PoolExecutor
from lensllm.core.trials import Trial
from lensllm.system.interrupts import is_ending, leave_if_ended, saved_first

class Steps:
    def run(self, trial):
        with saved_first():
            while True:
                Path(f"{trial.model}.began").touch()
                until = time.monotonic() + float(sys.argv[1])
                while time.monotonic() < until: time.sleep(0.01)
                if is_ending():
                    Path(f"{trial.model}.saved").touch()
                    leave_if_ended()

if __name__ == "__main__":
    guard_process()
    with ended_by_signals(), closing(PoolExecutor(2, save_seconds=float(sys.argv[2]))) as executor:
        runner = Steps()
        for name in "ab":
            executor.start(runner, Trial(name, "toy", 10))
        executor.next()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all", "step", "save", "n_saved", "most"),
    [
        (signal.SIGTERM, False, 3.0, 20.0, 2, 15.0),
        (signal.SIGTERM, True, 3.0, 20.0, 2, 15.0),  # as schedulers do
        (signal.SIGTERM, False, 60.0, 1.0, 0, 5.0),
        (signal.SIGINT, False, 60.0, 20.0, 0, 5.0),
    ],
    ids=["preempted", "all preempted", "no time", "Ctrl-C"],
)
def test_trials_of_a_pool_are_saved_at_a_preemption_and_not_at_an_interrupt(
    start, tmp_path, number, to_all, step, save, n_saved, most
):
    (tmp_path / "pool.py").write_text(SAVING_POOL)
    process = start("pool.py", step, save)
    wait_until(lambda: len(list(tmp_path.glob("*.began"))) == 2)
    since = time.monotonic()
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
    process.communicate(timeout=120)
    assert time.monotonic() - since < most
    assert process.returncode == 128 + number
    assert len(list(tmp_path.glob("*.saved"))) == n_saved
    wait_until(lambda: not session(process), 10.0)  # what cleans up after all ends last
