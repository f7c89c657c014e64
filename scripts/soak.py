"""Campaigns of replayed trials under injected faults, for some minutes, and what held all the same.

Recorded curves of the zoo are replayed by real processes on a real store. Processes are killed or
stopped, trials raise, fail or are slow, files of the store are spoilt, foreign ones are added, wall
clocks and file times are years off, and the disk is full (a tmpfs as root, a limit of file sizes
otherwise). Each campaign is started again until it ends.

    python -m scripts.soak [--minutes 8] [--executor pool] [--seed 0] [--folder outputs/soak]
    python -m scripts.soak --minutes 7 3 --executor pool ray

Prints a table, writes it as `soak.json` and `soak.txt`, and ends with exit code 1 if an invariant
is broken; the folders of broken rounds are kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:  # at run time in `main`: every worker imports this file
    from lensllm.studies.soak.rounds import RoundResult


def table(results: list[RoundResult], seconds: float) -> str:
    """Faults by kind and checks by invariant, for each executor."""
    from lensllm.studies.soak.rounds import INVARIANTS

    names = sorted({result.executor for result in results})
    by_name = {name: [r for r in results if r.executor == name] for name in names}

    def rows(title: str, counts: dict[str, Counter[str]]) -> list[str]:
        kinds = sorted({kind for found in counts.values() for kind in found})
        lines = [f"{title:55}" + "".join(f"{name:>12}" for name in names)]
        return lines + [f"{k:55}" + "".join(f"{counts[n][k]:12}" for n in names) for k in kinds]

    faults = {n: sum((r.faults for r in found), Counter()) for n, found in by_name.items()}
    checks = {n: sum((r.checks for r in found), Counter()) for n, found in by_name.items()}
    broken: dict[str, Counter[str]] = {
        n: Counter({i: sum(len(r.broken.get(i, ())) for r in found) for i in INVARIANTS})
        for n, found in by_name.items()
    }
    course = {
        n: Counter(
            rounds=len(found),
            campaigns=sum(r.n_campaigns for r in found),
            starts=sum(r.n_starts for r in found),
            trials=sum(r.n_trials for r in found),
            faults=sum(sum(r.faults.values()) for r in found),
        )
        for n, found in by_name.items()
    }
    parts = [
        rows(f"in {seconds:.0f} s", course),
        rows("faults injected", faults),
        rows("invariant: times checked", checks),
        rows("invariant: times broken", broken),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def write(results: list[RoundResult], seconds: float, folder: Path) -> None:
    """Write the table, and the rounds as JSON."""
    (folder / "soak.txt").write_text(table(results, seconds) + "\n", encoding="utf-8")
    rounds = json.dumps([vars(result) for result in results], indent=1)
    (folder / "soak.json").write_text(rounds + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run rounds until the time is over; return the exit code."""
    from lensllm.studies.soak.rounds import run_round

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[8.0])
    parser.add_argument("--executor", nargs="+", choices=("pool", "ray"), default=["pool"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("outputs/soak"))
    parser.add_argument("--models", type=int, default=28, help="candidates in a set")
    parser.add_argument("--sets", type=int, default=2, help="sets of candidates in a round")
    parser.add_argument("--round-seconds", type=float, default=75.0)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)  # that spoilt files are found is no news here
    if len(args.minutes) != len(args.executor):
        parser.error("expected as many --minutes as --executor")
    args.folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="rounds-", dir=args.folder)).resolve()
    results: list[RoundResult] = []
    begun, seed = time.monotonic(), args.seed
    for executor, minutes in zip(args.executor, args.minutes, strict=True):
        end = time.monotonic() + 60.0 * minutes
        while (left := end - time.monotonic()) > 0 or not results:
            folder, seconds = work / str(seed), min(args.round_seconds, max(1.0, 0.8 * left))
            options = {"n_models": args.models, "n_sets": args.sets}
            results.append(run_round(folder, executor, seed, seconds, **options))
            if not results[-1].broken:
                shutil.rmtree(folder, ignore_errors=True)
            print(f"round {seed}: {results[-1].broken or 'all invariants held'}", flush=True)
            seed += 1
            write(results, time.monotonic() - begun, args.folder)
    print(f"\n{table(results, time.monotonic() - begun)}")
    return int(any(result.broken for result in results))


if __name__ == "__main__":
    sys.exit(main())
