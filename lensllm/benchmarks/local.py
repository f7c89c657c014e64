"""Benchmarks from files: the zoo's recorded curves, and anybody's CSV."""

from __future__ import annotations

from pathlib import Path

from lensllm.benchmarks.benchmark import Benchmark, rank_by_column
from lensllm.curves import check_curves, read_curves

ZOO_CSV = Path(__file__).with_name("zoo.csv")


def load_zoo(
    path: str | Path | None = None,
    target_n_samples: int | None = None,
    rank_by: str = "test_loss",
) -> Benchmark:
    """Load the curves of the built-in zoo, recorded with the project's own sweep.

    Args:
        path: Tidy CSV, lines that start with # being comments; the recorded one by default.
        target_n_samples: D_full; the largest size of each data set by default.
        rank_by: `test_loss` or `test_loss_per_byte`.

    Returns:
        The benchmark; costs are the recorded FLOPs.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(path or ZOO_CSV)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the zoo's recorded curves at {path}, found no file: use benchmark=rsl or "
            "benchmark=csv benchmark.path=FOLDER"
        )
    curves = check_curves(rank_by_column(read_curves(path, allow_missing=True), rank_by), str(path))
    return Benchmark("zoo", curves, target_n_samples, source=str(path.name))


def load_csv(
    path: str | Path,
    target_n_samples: int | None = None,
    tokens_per_sample: float = 1.0,
    n_epochs: float = 1.0,
    rank_by: str = "test_loss",
    allow_missing: bool = True,
) -> Benchmark:
    """Load anybody's curves: a tidy CSV, a wide CSV, a folder of wide CSVs, or a trial store.

    Args:
        path: The file or folder (see `lensllm.curves.read_curves`).
        target_n_samples: D_full; the largest size of each data set by default.
        tokens_per_sample: Tokens a sample, for costs where no FLOPs were recorded.
        n_epochs: Passes over the data, for the same.
        rank_by: `test_loss` or `test_loss_per_byte`.
        allow_missing: Leave empty cells out instead of refusing them.

    Returns:
        The benchmark.
    """
    curves = rank_by_column(read_curves(path, allow_missing=allow_missing), rank_by)
    tokens = dict.fromkeys(curves["dataset"].unique(), tokens_per_sample)
    return Benchmark("csv", curves, target_n_samples, tokens, n_epochs, str(path))
