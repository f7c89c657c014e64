"""Scores of a model's answers against references, by the measures of torchmetrics and sacrebleu.

A measure gives either one score per example, whose mean is its value, or one number for the whole
test set, whose standard error is that of a bootstrap over examples. chrF and BLEU need the extra
`measures`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
import torch

from lensllm.core.example_losses import pack_scores
from lensllm.core.measures import MEASURES, Measure
from lensllm.core.trials import MeasureValue

N_BOOTSTRAP = 200
# Packages whose versions decide the value of a measure.
PACKAGES = {
    "f1": "torchmetrics",
    "rouge_l": "torchmetrics",
    "chrf": "sacrebleu",
    "bleu": "sacrebleu",
}

Texts = Sequence[str]


def score(
    measure: Measure, predictions: Texts, references: Texts, labels: Texts | None = None
) -> MeasureValue:
    """The value of a measure on a test set.

    Args:
        measure: One of `MEASURES` that is no loss, or one of the name `module:function`. Such a
            function is given predictions and references as lists of texts, in their order, and
            returns one score per example, or one number for all of them; one number has no standard
            error.
        predictions: The model's answers.
        references: The right answers.
        labels: All labels of a closed set; `None` where answers are free.

    Raises:
        ValueError: A score is not finite or beyond the measure's bound, or the function cannot be
            found, or returns something else.
    """
    if measure.name in _CORPUS:
        value, error = _CORPUS[measure.name](predictions, references)
        found: Any = value
    elif measure.name == "f1" and labels is not None:
        found, error = _macro_f1(predictions, references, labels)
    elif measure.name in _PER_EXAMPLE:
        one, error = _PER_EXAMPLE[measure.name], math.nan
        found = [one(p, r) for p, r in zip(predictions, references, strict=True)]
    else:
        error = math.nan
        found = _function(measure.name)(list(predictions), list(references))
    return _value(measure, found, error, len(references))


def _value(measure: Measure, found: Any, error: float, n_examples: int) -> MeasureValue:
    """A value with its standard error, from scores of examples or one number."""
    if isinstance(found, int | float | np.number):
        measure.check(float(found))
        return MeasureValue(float(found), error, n_examples)
    try:
        scores = [float(item) for item in found]
    except (TypeError, ValueError):
        scores = []
    if len(scores) != n_examples:
        raise ValueError(
            f"Expected {n_examples} scores or one number of {measure.name}, one per test example, "
            f"got {found!r:.100}"
        )
    for row, item in enumerate(scores, start=1):
        try:
            measure.check(item)
        except ValueError as cause:
            raise ValueError(f"{cause} (test example {row})") from cause
    spread = stdev(scores) / math.sqrt(n_examples) if n_examples > 1 else math.nan
    return MeasureValue(float(np.mean(scores)), spread, n_examples, pack_scores(scores))


def _is_same(prediction: str, reference: str) -> float:
    """Whether two texts are the same but for white space around them."""
    return float(prediction.strip() == reference.strip())


def _squad_f1(prediction: str, reference: str) -> float:
    """Overlap of words as SQuAD counts it, without case, articles and punctuation."""
    from torchmetrics.functional.text import squad

    given = {"prediction_text": prediction, "id": "0"}
    answers = {"answers": {"answer_start": [0], "text": [reference]}, "id": "0"}
    return float(squad(given, answers)["f1"]) / 100.0


def _rouge_l(prediction: str, reference: str) -> float:
    """F1 of the longest common subsequence of words."""
    from torchmetrics.functional.text import rouge_score

    return float(rouge_score(prediction, reference, rouge_keys="rougeL")["rougeL_fmeasure"])


def _macro_f1(predictions: Texts, references: Texts, labels: Texts) -> tuple[float, float]:
    """F1 of each label that occurs, averaged over labels, with its standard error."""
    from torchmetrics.functional.classification import multiclass_f1_score

    place = {label: i for i, label in enumerate(labels)}
    guessed, true = (torch.tensor([place[t] for t in ts]) for ts in (predictions, references))

    def f1(rows: torch.Tensor) -> float:
        return float(
            multiclass_f1_score(guessed[rows], true[rows], len(labels), average="macro")
            if len(labels) > 1
            else 1.0
        )

    rng = np.random.default_rng(0)
    n = len(true)
    drawn = [f1(torch.from_numpy(rng.integers(n, size=n))) for _ in range(N_BOOTSTRAP)]
    return f1(torch.arange(n)), stdev(drawn)


def _sacrebleu(name: str) -> Callable[[Texts, Texts], tuple[float, float]]:
    """A measure of sacrebleu on the whole test set, with its bootstrapped standard error."""

    def corpus(predictions: Texts, references: Texts) -> tuple[float, float]:
        from sacrebleu.metrics import BLEU, CHRF

        metric = BLEU() if name == "bleu" else CHRF()
        found = metric.corpus_score(predictions, [references], n_bootstrap=N_BOOTSTRAP)
        told = json.loads(
            found.format(width=6, signature=str(metric.get_signature()), is_json=True)
        )
        half_width = told.get("confidence_var", math.nan)  # of a 95 % interval
        return min(float(found.score), 100.0), half_width / 1.96

    return corpus


_PER_EXAMPLE: dict[str, Callable[[str, str], float]] = {
    "accuracy": _is_same,
    "exact_match": _is_same,
    "f1": _squad_f1,
    "rouge_l": _rouge_l,
}
_CORPUS = {name: _sacrebleu(name) for name in ("chrf", "bleu")}


def _function(name: str) -> Callable[[list[str], list[str]], Any]:
    """The function of a measure `module:function`."""
    module, _, member = name.partition(":")
    try:
        return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError) as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == module
        hint = ": put its folder on PYTHONPATH, as in `PYTHONPATH=. lensllm select`"
        raise ValueError(
            f"Expected a function that can be imported as measure={name}, got: {error}"
            f"{hint if is_absent else ''}"
        ) from error


def decisive(measure: Measure) -> dict[str, Any]:
    """What decides the values of a measure beside the answers, for a trial's key.

    Of `module:function` that is the content of the module's file; what it imports is not seen.

    Raises:
        ValueError: The measure is neither known nor a function, or it has no source file.
    """
    if measure.name in PACKAGES:
        package = PACKAGES[measure.name]
        return {package: importlib.metadata.version(package)}
    if measure.name in MEASURES:
        return {}
    if ":" not in measure.name:
        raise ValueError(
            f"Expected a measure that lensllm can compute, one of {', '.join(MEASURES)} or "
            f"module:function, got {measure.name!r}, which only one's own program can report"
        )
    function = _function(measure.name)
    if not callable(function):
        raise ValueError(f"Expected a function as measure={measure.name}, got {function!r:.60}")
    found = importlib.util.find_spec(measure.name.partition(":")[0])
    if found is None or not str(found.origin).endswith(".py"):
        raise ValueError(
            f"Expected a Python file as the module of measure={measure.name}, got "
            f"{None if found is None else found.origin}"
        )
    content = Path(str(found.origin)).read_bytes()
    return {**measure_bounds(measure), "source": hashlib.sha256(content).hexdigest()[:16]}


def measure_bounds(measure: Measure) -> dict[str, Any]:
    """The bound and direction of a measure in JSON types."""
    return {"bound": measure.bound, "direction": measure.direction}
