"""Time, memory and disk of a store with many trials.

Writes trials as large as those of a real campaign (240 test examples, one measure, every setting)
into a temporary folder, and measures each use of the store in a process of its own. Files are read
from the page cache. At the end, the growth from the first to the last store, per trial.

    python -m scripts.bench_store [--trials 1000 10000 100000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from lensllm.core.trials import MeasureValue, Trial, TrialResult, TrialStore
from lensllm.execution.leftovers import find_leftovers
from lensllm.selectors.known_trials import Ledger

N_EXAMPLES = 240
SIZES = (0, 200, 400, 800, 1600, 3200, 6400, 12800)
N_CANDIDATES = 30  # of the campaign that starts on the store
SETTINGS = {
    "config": "a8516402a5ca4e6d",
    "data": "f8e7c45966f9f8d8",
    "device": "cpu",
    "dtype": "float32",
    "encoding": "5281634360c63558",
    "environment": dict.fromkeys(("lightning", "tokenizers", "torch", "transformers"), "5.23.0"),
    "measuring": {"labels": "6225f7ed23a7f242", "measures": {"accuracy": {}}, "share": 0.25},
    "optimizer": {"betas": [0.9, 0.999], "fused": True, "lr": 1e-3, "name": "torch.optim.AdamW"},
    "scheduler": {"name": "linear", "warmup_fraction": 0.1},
    "trainer": {"accelerator": "cpu", "devices": 1, "gradient_clip_val": 1.0, "precision": "32"},
    "training": dict.fromkeys(("batch_size", "max_epochs", "n_evaluations", "patience"), 16),
    "weights": "f9f76ded1d1b0e04",
}


def trial_number(number: int) -> Trial:
    """A trial; eight sizes of a model follow each other."""
    model, size = divmod(number, len(SIZES))
    return Trial(f"model-{model}", "bench", SIZES[size], settings=SETTINGS)


def results(first: int, last: int) -> Iterator[TrialResult]:
    """Trials from one number up to another."""
    draw = random.Random(first)

    def packed(n_bytes: int) -> str:
        return base64.b64encode(draw.randbytes(n_bytes)).decode()

    for number in range(first, last):
        trial = trial_number(number)
        loss = 4.0 * math.exp(-0.05 * math.log1p(trial.n_samples)) + 0.01 * draw.random()
        yield TrialResult(
            trial,
            "completed",
            loss,
            loss / 2,
            0.01,
            0.005,
            validation_loss=loss,
            n_params=161_088,
            n_tokens=43_770,
            flops=5.8e10,
            seconds=48.9 * draw.random(),
            data={"fingerprint": "f8e7c45966f9f8d8", "leaked": dict.fromkeys("abcdefgh", 0)},
            trace=tuple((13 * i, loss + 1 / (i + 1)) for i in range(6)),
            examples={name: packed(2 * N_EXAMPLES) for name in ("sums", "tokens", "bytes")},
            measures={"accuracy": MeasureValue(0.5, 0.03, N_EXAMPLES, packed(2 * N_EXAMPLES))},
            versions=dict.fromkeys(("lensllm", "python", "torch", "transformers"), "5.23.0"),
            finished_at="2026-11-30T16:54:39+00:00",
        )


def open_store(store: TrialStore) -> None:
    """What every command does first."""
    store.check_writable()


def start_campaign(store: TrialStore) -> None:
    """Look up every point of 30 candidates, and write the record of the campaign."""
    points = [store.get(trial_number(i)) for i in range(N_CANDIDATES * len(SIZES))]
    ledger = Ledger(store.folder, "bench")
    ledger.open([result for result in points if result is not None])
    ledger.close()


def add_one(store: TrialStore) -> None:
    """Store one more result, flushed to disk."""
    store.add(next(results(0, 1)))


def table(store: TrialStore) -> None:
    """All of it as one table."""
    assert len(store.curves()) > 0


def look_for_leftovers(store: TrialStore) -> None:
    """What `lensllm clean` lists."""
    find_leftovers(store, store.folder / "no-cache", 1.0)


USES: dict[str, Callable[[TrialStore], None]] = {
    "opening": open_store,
    "start of a campaign": start_campaign,
    "one more result": add_one,
    "clean": look_for_leftovers,
    "curves()": table,
}


def measure(use: str, folder: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of one use, in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    USES[use](TrialStore(folder))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, _peak_mb()


def _peak_mb() -> float:
    """Peak memory of this process (Linux); `ru_maxrss` would include that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def main() -> int:
    """Fill a store step by step, and measure it at each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="a folder in which there is room for the store")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-store-", dir=args.folder))
    found: dict[tuple[int, str], tuple[float, float, float]] = {}
    n_before = 0
    try:
        for n in sorted(args.trials):
            for result in results(n_before, n):  # not by `add`, which waits for the disk
                text = json.dumps(result.to_json(), indent=1, sort_keys=True)
                (folder / f"{result.trial.key}.json").write_text(text, encoding="utf-8")
            n_before = n
            sizes = [path.stat() for path in folder.glob("*.json")]
            held = sum(512 * size.st_blocks for size in sizes) / 1e6
            print(
                f"{n} trials, {held:.0f} MB on disk, {sum(s.st_size for s in sizes) / n:.0f} bytes "
                f"a file, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            )
            for use in USES:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    found[n, use] = pool.submit(measure, use, str(folder)).result()
                wall, cpu, peak = found[n, use]
                print(f"  {use:22} {wall:9.3f} s {cpu:9.3f} CPU s {peak:7.0f} MB peak", flush=True)
    finally:
        shutil.rmtree(folder)
    low, high = min(args.trials), max(args.trials)
    for use in USES:
        growth = (found[high, use][1] - found[low, use][1]) / max(1, high - low)
        print(f"growth {use}: {1e6 * growth:.1f} CPU microseconds per trial")
    return 0


if __name__ == "__main__":
    sys.exit(main())
