"""The main job end to end: select a model by fine-tuning for real, then replay recorded curves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path("outputs/demo")
SELECTORS = (
    "adaptive",
    "pooled_fit",
    "budget_optimal_probing",
    "ats",
    "sub_tuning",
    "rectified_fit",
    "vanilla_fit",
    "lensllm_stand_in",
    "last_2_line",
    "last_3_line",
    "last_5_line",
    "successive_halving",
    "other_winner",
    "model_size",
    "zero_shot",
    "random_choice",
)
STEPS = (
    (
        "A campaign by real fine-tuning of small models on docstrings",
        ["scripts/select_model.py", "experiment=demo", f"hydra.run.dir={OUTPUT}/campaign"],
    ),
    (
        "Every selector, replayed over recorded curves of the whole zoo",
        [
            "scripts/evaluate_selection.py",
            "benchmark=zoo",
            "datasets=[docstrings,wiki]",
            "budget_ratios=[4,8,16]",
            "budget_fractions=[0.05,0.1,0.15,0.3]",
            f"selectors=[{','.join(SELECTORS)}]",
            f"hydra.run.dir={OUTPUT}/replay",
        ],
    ),
)


def main() -> int:
    """Run the steps; return the exit code of the first one that fails, else 0."""
    start = time.perf_counter()
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for number, (title, command) in enumerate(STEPS, start=1):
        print(f"\n[{time.perf_counter() - start:4.0f} s] {number}/{len(STEPS)} {title}", flush=True)
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env={**threads, **os.environ}, check=False
        )
        if done.returncode != 0:
            return done.returncode
    print(f"\n[{time.perf_counter() - start:4.0f} s] Done. Results:")
    for path in sorted((ROOT / OUTPUT).glob("*/*")):
        if path.is_file() and path.suffix in (".json", ".csv", ".png", ".md", ".html"):
            print(f"  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the step that was running has told it
        sys.exit(130)
