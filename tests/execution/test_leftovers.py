"""What `lensllm clean` lists, and what it never touches."""

import json
import os
import subprocess
import sys
import time

import pytest

from lensllm.commands.cli import main
from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.execution.leftovers import find_leftovers, prune

OLD = time.time() - 10 * 86400


@pytest.fixture
def disk(tmp_path):
    """A store and a cache with something of everything."""
    store, cache = TrialStore(tmp_path / "store"), tmp_path / "cache"
    finished = TrialResult(Trial("a", "b", 1), "completed", 1.0)
    store.add(finished)
    key = finished.trial.key

    def write(path, size=1000, age=OLD):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (age, age))

    unfinished = store.folder / ".unfinished"
    write(unfinished / f"{key}.ckpt", age=time.time())
    write(unfinished / "resumable.ckpt", 3000)
    write(unfinished / "recent.ckpt", age=time.time())
    write(unfinished / "running.ckpt", 2000)
    write(cache / "tokens" / "0123" / "tokens.bin", 4000)
    os.utime(cache / "tokens" / "0123", (OLD, OLD))
    write(cache / "docstrings.parquet")
    write(store.folder / ".writing-1.tmp", 10)
    write(store.folder / "x.json.set-aside")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True)  # fmt: skip
    with store.claims.hold("gone"):
        owner = store.claims.owner("gone")
    (store.claims.folder / "gone.json").write_text(json.dumps({**owner, "pid": int(gone.stdout)}))
    with store.claims.hold("running"):
        yield store, cache


def names(leftovers):
    return {item.path.name for item in leftovers}


def test_what_is_left_is_told_with_its_size_and_what_is_in_use_is_kept(disk):
    store, cache = disk
    found = find_leftovers(store, cache, older_than_days=1.0)
    key = next(store.results()).trial.key
    unused = {item.path.name: item for item in found if not item.is_in_use}
    assert set(unused) == {
        f"{key}.ckpt", "resumable.ckpt", "0123", ".writing-1.tmp", "gone.json",
    }  # fmt: skip
    assert names(item for item in found if item.is_in_use) == {
        "recent.ckpt", "running.ckpt", "running.json",
    }  # fmt: skip
    assert (unused["0123"].n_bytes, unused["resumable.ckpt"].n_bytes) == (4000, 3000)
    assert unused["resumable.ckpt"].age_days == pytest.approx(10, abs=0.1)
    assert [item.n_bytes for item in found] == sorted((i.n_bytes for i in found), reverse=True)
    before = {path for path in store.folder.rglob("*") if path.is_file()}
    assert prune(found) == sum(item.n_bytes for item in unused.values())
    after = {path for path in store.folder.rglob("*") if path.is_file()}
    assert {path.name for path in before - after} == set(unused) - {"0123"}
    assert (cache / "docstrings.parquet").is_file()
    assert [result.test_loss for result in store.results()] == [1.0]


def test_nothing_is_removed_unless_asked(disk, run_main, tmp_path):
    store, cache = disk
    words = [f"paths.store_dir={store.folder}", f"paths.cache_dir={cache}"]
    words += [f"paths.output_dir={tmp_path}", "kinds=[checkpoint]"]
    before = sorted((store.folder / ".unfinished").iterdir())
    done = run_main(main, "clean", *words)
    assert done.code == 0, done.err
    assert "2 of 4 can be removed, 0.0 MB: lensllm clean delete=true removes them" in done.out
    assert "kept        0.0 MB   10.0 days  checkpoint" in done.out
    assert sorted((store.folder / ".unfinished").iterdir()) == before
    assert "removed 2 of 4" in run_main(main, "clean", *words, "delete=true").out
    left = sorted(path.name for path in (store.folder / ".unfinished").iterdir())
    assert left == ["recent.ckpt", "running.ckpt"]
    assert (store.folder / ".writing-1.tmp").is_file()


@pytest.mark.parametrize(
    ("word", "message"),
    [("kinds=[trials]", "got 'trials'"), ("older_than_days=-1", "older_than_days >= 0, got -1")],
)
def test_bad_settings_are_refused(run_main, tmp_path, word, message):
    done = run_main(main, "clean", word, f"paths.output_dir={tmp_path}")
    assert (done.code, message in done.err) == (2, True), done.err
