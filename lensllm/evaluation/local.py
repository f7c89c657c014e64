"""Benchmarks from files: the zoo's recorded curves, and a user's own."""

from __future__ import annotations

from pathlib import Path

from lensllm.core.curves import check_curves, read_curves
from lensllm.evaluation.benchmark import Benchmark

ZOO_CSV = Path(__file__).with_name("zoo.csv")


def load_zoo(
    path: str | Path | None = None,
    n_samples_full: int | None = None,
    measure: str = "loss",
) -> Benchmark:
    """Load the curves of the built-in zoo, recorded with the project's own sweep.

    Args:
        path: Tidy CSV, lines that start with # being comments; the recorded one by default.
        n_samples_full: D_full; the largest size of each data set by default.
        measure: Name of what candidates are compared by, see `lensllm.core.measures`.

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
    curves = check_curves(read_curves(path, allow_missing=True), str(path))
    return Benchmark("zoo", curves, n_samples_full, source=str(path.name), measure=measure)


def load_csv(
    path: str | Path,
    n_samples_full: int | None = None,
    tokens_per_sample: float = 1.0,
    n_epochs: float = 1.0,
    measure: str = "loss",
    allow_missing: bool = True,
) -> Benchmark:
    """Load a user's curves: a tidy CSV, a wide CSV, a folder of wide CSVs, or a trial store.

    Args:
        path: The file or folder (see `lensllm.core.curves.read_curves`).
        n_samples_full: D_full; the largest size of each data set by default.
        tokens_per_sample: Tokens per sample, for costs where no FLOPs were recorded.
        n_epochs: Passes over the data, for the same costs.
        measure: Name of what candidates are compared by, see `lensllm.core.measures`.
        allow_missing: Leave empty cells out instead of refusing them.

    Returns:
        The benchmark.
    """
    curves = read_curves(path, allow_missing=allow_missing)
    tokens = dict.fromkeys(curves["dataset"].unique(), tokens_per_sample)
    return Benchmark("csv", curves, n_samples_full, tokens, n_epochs, str(path), measure)
