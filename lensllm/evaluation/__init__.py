"""Recorded benchmarks: where they come from, and how selectors are judged on them."""

from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.evaluation import Evaluation, evaluate
from lensllm.evaluation.local import load_csv, load_zoo
from lensllm.evaluation.rsl import download_rsl, load_rsl

__all__ = [
    "Benchmark",
    "Evaluation",
    "download_rsl",
    "evaluate",
    "load_csv",
    "load_rsl",
    "load_zoo",
]
