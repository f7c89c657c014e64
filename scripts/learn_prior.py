"""Learn what the default selector assumes of learning curves: lensllm/predictors/prior.csv.

Every recorded task gives one component, by its own points alone, so that a prior that has not seen
a task is this one without the task's components. Takes some ten minutes of CPU time.

    python -m scripts.learn_prior --lcdb FOLDER --rsl FOLDER [--zoo CSV ...] [--out CSV]

The folder of the Learning Curve Database has `means/*.csv` (wide) and `seeds.csv` (tidy), the
one of the Rectified Scaling Law benchmark one wide CSV per data set.
"""

from __future__ import annotations

import argparse
import hashlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import pandas as pd

from lensllm.core.curves import read_wide_csv
from lensllm.evaluation.local import ZOO_CSV
from lensllm.predictors.prior import PRIOR_CSV
from lensllm.studies.selectors.learn_prior import RecordedTask, learn_prior, recorded_tasks
from lensllm.system.atomic import write_whole

# Campaigns have less data than the 1 638 400 samples of this benchmark: it is cut shorter as well.
RSL_FULLS = (None, 204_800, 12_800)


def corpus(lcdb: Path, rsl: Path, zoo: list[Path]) -> list[RecordedTask]:
    """All recorded tasks: database means and one seed of each, the papers' data sets, the zoo's."""
    tasks = []
    for path in sorted((lcdb / "means").glob("*.csv")):
        tasks += recorded_tasks(read_wide_csv(path, allow_missing=True), "database")
    seeds = pd.read_csv(lcdb / "seeds.csv")
    tasks += recorded_tasks(seeds[seeds["seed"] == seeds["seed"].min()], "database")
    for path in sorted(rsl.glob("*.csv")):
        tasks += recorded_tasks(read_wide_csv(path, allow_missing=True), "language", RSL_FULLS)
    for path in zoo:
        tasks += recorded_tasks(pd.read_csv(path, comment="#"), "language")
    return tasks


def main() -> None:
    """Learn, and write the components with where they come from."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lcdb", type=Path, required=True)
    parser.add_argument("--rsl", type=Path, required=True)
    parser.add_argument("--zoo", type=Path, nargs="*", default=[ZOO_CSV])
    parser.add_argument("--out", type=Path, default=PRIOR_CSV)
    args = parser.parse_args()
    tasks = corpus(args.lcdb, args.rsl, args.zoo)
    table = learn_prior(tasks, progress=lambda text: print(text, flush=True))
    body = table.to_csv(index=False)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    sources = (
        "the Learning Curve Database 1.0 (MIT), the Rectified Scaling Law benchmark and the zoo"
    )
    head = f"# Learned by scripts/learn_prior.py from {len(tasks)} tasks of {sources}; {digest}\n"
    write_whole(args.out, head + body)
    print(f"{len(table)} components in {args.out}")


if __name__ == "__main__":
    main()
