"""The Rectified Scaling Law benchmark: downloaded at a pinned commit, verified, cached."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd

from lensllm.core.curves import read_wide_csv
from lensllm.evaluation.benchmark import Benchmark
from lensllm.system.atomic import write_whole

logger = logging.getLogger(__name__)

COMMIT = "b7012351b1635c0b276f4a256a3ad02eb3e24a1d"
URL = f"https://raw.githubusercontent.com/linhaowei1/Fine-tuning-Scaling-Law/{COMMIT}/benchmark"
SHA256 = {
    "flan": "ead24af8eaa97ac0507bbd76c4880eb09c6361e252f4971666ba55017215d1e9",
    "gigaword": "7d0b08ef9df06eefb4355f859fb44e7860c1e55effd781d318d60a1f8661f2b3",
    "wmt19": "523b044495f87c1f954c359fb489cf4e38f739c7fca8161d70665853fb2d293a",
}
N_SAMPLES_FULL = 1_638_400
# Mean source + target tokens per sample and most epochs, as in the paper's account of its cost.
TOKENS_PER_SAMPLE = {"flan": 23.0 + 12.0, "wmt19": 32.0 + 40.0, "gigaword": 36.0 + 8.0}
N_EPOCHS = 20.0


def load_rsl(
    folder: str | Path, n_samples_full: int | None = None, measure: str = "loss"
) -> Benchmark:
    """Load the benchmark of Lin et al. (ICML 2024, arXiv:2402.02314): 30 models, 3 data sets.

    Args:
        folder: Folder with `flan.csv`, `gigaword.csv` and `wmt19.csv`, or with a folder `rsl` that
            has them. What is not there is downloaded to the latter.
        n_samples_full: D_full; 1 638 400 by default.
        measure: Name of what candidates are compared by; it recorded `loss` alone.

    Returns:
        The benchmark. Costs count at most the paper's 20 epochs, and its tokens per sample; they
        count one run per point, where the paper had 15 (12 hyper-parameter settings and 3 seeds).

    Raises:
        FileNotFoundError: It is not there and could not be downloaded.
        ValueError: A file is not the pinned version.
    """
    folder = Path(folder)
    here = folder if all((folder / f"{name}.csv").is_file() for name in SHA256) else folder / "rsl"
    download_rsl(here)
    tables = [read_wide_csv(here / f"{name}.csv") for name in SHA256]
    return Benchmark(
        "rsl",
        pd.concat(tables, ignore_index=True),
        n_samples_full or N_SAMPLES_FULL,
        TOKENS_PER_SAMPLE,
        N_EPOCHS,
        f"Lin et al., ICML 2024, arXiv:2402.02314, {URL}",
        measure,
    )


def download_rsl(folder: str | Path, timeout: float = 30.0) -> list[Path]:
    """Download what is missing, and verify every file against its SHA-256.

    Args:
        folder: Where the files are, or go.
        timeout: Seconds until a silent server is given up.

    Returns:
        Paths of the three files.

    Raises:
        FileNotFoundError: A file is not there and could not be downloaded.
        ValueError: A file is not the pinned version.
    """
    paths = []
    for name, digest in SHA256.items():
        path = Path(folder) / f"{name}.csv"
        content = (
            path.read_bytes() if path.is_file() else _fetch(f"{URL}/{name}.csv", path, timeout)
        )
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise ValueError(
                f"Expected SHA-256 {digest} of {path}, got {found}: it is not the pinned version; "
                "remove it and run lensllm download, or load your own curves with "
                f"benchmark=csv benchmark.path={path.parent}"
            )
        if not path.is_file():
            write_whole(path, content)
        paths.append(path)
    return paths


def _fetch(url: str, path: Path, timeout: float) -> bytes:
    """The bytes at a URL."""
    logger.info("Downloading %s to %s", url, path)
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return bytes(response.read())
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise FileNotFoundError(
            f"Expected the recorded benchmark at {path}, found none and could not download {url} "
            f"({reason}): connect and run lensllm download, give a folder that has "
            "it with paths.benchmark_dir=FOLDER, or use benchmark=zoo, which needs no network"
        ) from None
