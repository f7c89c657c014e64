"""Recorded benchmarks: where they come from, and how selectors are judged on them.

The judge needs torch, and is imported when first asked for.
"""

from typing import TYPE_CHECKING

from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.local import load_csv, load_zoo
from lensllm.evaluation.rsl import download_rsl, load_rsl
from lensllm.system.lazy import lazily

if TYPE_CHECKING:
    from lensllm.evaluation.evaluation import Evaluation, evaluate

__all__ = [
    "Benchmark",
    "Evaluation",
    "download_rsl",
    "evaluate",
    "load_csv",
    "load_rsl",
    "load_zoo",
]

__getattr__ = lazily(__name__, {"lensllm.evaluation.evaluation": ("Evaluation", "evaluate")})
