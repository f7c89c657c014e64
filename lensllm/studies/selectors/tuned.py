"""How settings are scored while they are chosen, and how the chosen ones are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lensllm.evaluation.benchmark import Benchmark
from lensllm.evaluation.evaluation import evaluate
from lensllm.evaluation.metrics import correlations, relative_accuracy, relative_accuracy_of
from lensllm.evaluation.statistics import resample_rows
from lensllm.predictors.pooled import PooledPredictor
from lensllm.selectors.pooled_fit import PooledFit
from lensllm.studies.selectors.calibration import Calibration, Question, calibrate, questions
from lensllm.studies.selectors.tuning import NONE_HELD_OUT, Judge

_N_DRAWS = 1000  # per cell, while choosing
_N_SETS, _SET_SIZE = 200, 8  # random sets of candidates per cell, and their size

Build = Callable[[Mapping[str, Any]], PooledFit]


@dataclass(frozen=True, eq=False)
class Judged:
    """What `judge_choices` found.

    Attributes:
        scores: Rows of `lensllm.evaluation.evaluate` with a column `settings`: `held_out` (chosen
            without the data set of the row) or `in_sample` (chosen on all data sets).
        predictions: Its predictions, with the same column.
        calibrations: Intervals and probabilities by the same two names.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    calibrations: dict[str, Calibration]


def cell_judge(
    build: Build,
    ratios: Sequence[int],
    targets: Sequence[int | None],
    *,
    score: Callable[[Question[PooledPredictor]], float],
) -> Judge:
    """Score every cell of a benchmark by itself.

    Args:
        build: Function that makes a selector from settings.
        ratios: D_full / D_max.
        targets: Sizes D_full; `None` for the benchmark's own.
        score: Score of one cell, larger is better; `nan` where nothing can be predicted.
    """

    def judge(benchmark: Benchmark, values: Mapping[str, Any]) -> pd.DataFrame:
        predictor = build(values).predictor
        asked = questions(benchmark, predictor, ratios, targets=targets)
        rows = [(question.task.dataset, score(question)) for question in asked]
        return pd.DataFrame(rows, columns=["dataset", "score"])

    return judge


def spread_judge(
    build: Build,
    ratios: Sequence[int],
    targets: Sequence[int | None],
    *,
    relative: bool = False,
    min_sizes: int = 3,
) -> Judge:
    """Score = minus the interval score of the 80 % intervals of log loss.

    Args:
        build: Function that makes a selector from settings.
        ratios: D_full / D_max.
        targets: Sizes D_full; `None` for the benchmark's own.
        relative: Whether to subtract the mean log loss over the candidates: a choice rests on the
            differences alone.
        min_sizes: Cells with fewer sizes are passed over.
    """

    def judge(benchmark: Benchmark, values: Mapping[str, Any]) -> pd.DataFrame:
        found = calibrate(
            benchmark,
            build(values).predictor,
            ratios,
            targets=targets,
            n_draws=_N_DRAWS,
            min_sizes=min_sizes,
            relative=relative,
        )
        return found.candidates[["dataset"]].assign(score=-found.interval_score(0.8))

    return judge


def correlation_and_accuracy(question: Question[PooledPredictor]) -> float:
    """Score of a ranking: Pearson correlation + relative accuracy, as fractions."""
    log_loss, truth = _draws_and_truth(question)
    if not truth.size:
        return math.nan
    predicted = np.exp(log_loss.mean(axis=0))
    return correlations(predicted, truth)["pearson"] + relative_accuracy(predicted, truth)


def log_p_best(question: Question[PooledPredictor]) -> float:
    """Mean log P(best), in nats, of the truly best one of random sets of candidates.

    This is a proper scoring rule for a choice (Good 1952, J. R. Stat. Soc. B 14:107). One choice
    among all candidates says little; choices among many random sets of them, the same for all
    settings, say more. Counts of draws begin at one half.
    """
    log_loss, truth = _draws_and_truth(question)
    if not truth.size:
        return math.nan
    size, rng = min(_SET_SIZE, len(truth)), np.random.default_rng(0)
    scores = []
    for _ in range(_N_SETS):
        drawn = rng.choice(len(truth), size, replace=False)
        wins = (log_loss[:, drawn].argmin(axis=1) == truth[drawn].argmin()).sum()
        scores.append(math.log((wins + 0.5) / (len(log_loss) + 0.5 * size)))
    return float(np.mean(scores))


def _draws_and_truth(question: Question[PooledPredictor]) -> tuple[np.ndarray, np.ndarray]:
    """Draws of log losses at D_full, (n_draws, n_models), and the true losses, (n_models,)."""
    task = question.task
    draws = question.predictor.draws(
        task, question.curves, [task.n_samples_full], n_draws=_N_DRAWS, seed=0
    )
    return draws.log_loss[:, :, -1], np.array([question.truth[name] for name in draws.models])


JUDGES: dict[str, Callable[..., Judge]] = {
    "ranking": partial(cell_judge, score=correlation_and_accuracy),
    "choices": partial(cell_judge, score=log_p_best),
    "spread": spread_judge,
    "differences": partial(spread_judge, relative=True, min_sizes=1),
}


def judge_choices(
    benchmark: Benchmark,
    choices: Mapping[str, Mapping[str, Any]],
    build: Build,
    ratios: Sequence[int],
    targets: Sequence[int | None],
) -> Judged:
    """Judge every data set with the settings chosen without it, and with those chosen on all.

    Args:
        benchmark: The recorded curves.
        choices: Settings by held-out data set, and by `none`.
        build: Function that makes a selector from settings.
        ratios: D_full / D_max.
        targets: Sizes D_full.

    Returns:
        Scores, predictions and calibrations. With the settings chosen on a data set its scores are
        in-sample and no estimate of what other data will bring.
    """
    scores, predictions, calibrations = [], [], {}
    for label in ("held_out", "in_sample"):
        parts = []
        for dataset in benchmark.datasets:
            selector = build(choices[dataset if label == "held_out" else NONE_HELD_OUT])
            found = _scores(benchmark, selector, ratios, targets, [dataset])
            scores.append(found[0].assign(settings=label))
            predictions.append(found[1].assign(settings=label))
            calibration = calibrate(
                benchmark, selector.predictor, ratios, [dataset], targets=targets
            )
            parts.append(calibration.candidates)
        calibrations[label] = Calibration(pd.concat(parts, ignore_index=True))
    return Judged(
        pd.concat(scores, ignore_index=True),
        pd.concat(predictions, ignore_index=True),
        calibrations,
    )


def best_in_top(predictions: pd.DataFrame, k: int = 3) -> pd.Series:
    """Whether the truly best candidate is among the k with the best scores, cell by cell."""
    keys = ["settings", "dataset", "seed", "n_samples_full", "max_n_samples"]
    return predictions.groupby(keys).apply(
        lambda cell: bool((cell["score"].rank() <= k)[cell["true_loss"].idxmin()]),
        include_groups=False,
    )


def bootstrap_over_models(
    predictions: pd.DataFrame, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Spread of the mean correlation and relative accuracy over resampled candidates.

    The same candidates are drawn in all cells of a resample. The relative accuracy is that of the
    best-ranked candidate drawn, between the best and the worst drawn.

    Args:
        predictions: Rows of one kind of settings and one target.
        n_resamples: Number of resamples.
        seed: Seed.

    Returns:
        One row per resample: `pearson` and `relative_accuracy`, means over the cells.
    """
    cells = ["dataset", "seed", "max_n_samples"]
    score = predictions.pivot_table(index=cells, columns="model", values="score").to_numpy()
    truth = predictions.pivot_table(index=cells, columns="model", values="true_loss").to_numpy()
    rows = []
    for drawn in resample_rows(score.shape[1], n_resamples, np.random.default_rng(seed)):
        x, y = score[:, drawn], truth[:, drawn]
        chosen = np.take_along_axis(y, x.argmin(axis=1)[:, None], axis=1)[:, 0]
        worst, best = y.max(axis=1), y.min(axis=1)
        dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        pearson = (dx * dy).sum(axis=1) / np.sqrt((dx**2).sum(axis=1) * (dy**2).sum(axis=1))
        accuracy = relative_accuracy_of(chosen, best, worst)
        rows.append({"pearson": pearson.mean(), "relative_accuracy": accuracy.mean()})
    return pd.DataFrame(rows)


def _scores(
    benchmark: Benchmark,
    selector: PooledFit,
    ratios: Sequence[int],
    targets: Sequence[int | None],
    datasets: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and predictions at several targets."""
    found = [
        evaluate(
            replace(benchmark, n_samples_full=target) if target else benchmark,
            [selector],
            ratios,
            datasets=datasets,
        )
        for target in targets
    ]
    answered = [item.scores[item.scores["status"] == "ranked"] for item in found]
    return (
        pd.concat(answered, ignore_index=True),
        pd.concat([item.predictions for item in found], ignore_index=True),
    )
