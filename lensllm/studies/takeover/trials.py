"""Trials from the pre-trained weights, and from those of a smaller trial of the same candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lensllm.core.trials import Trial, TrialResult
from lensllm.data.pairs import TextData, make_text_data
from lensllm.data.rows import nested_subset, take
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings

# Makes a runner that keeps the weights of its trials, from candidates, data and settings.
MakeRunner = Callable[[Sequence[ModelSource], TextData, TrainingSettings], FineTuneRunner]
START = "from the start"


@dataclass(frozen=True)
class Takeover:
    """How a trial continues from the weights of the trial before it, with a new optimizer.

    Attributes:
        name: Its name in tables.
        only_new: Whether it trains on the pairs alone that the smaller trial did not have.
        max_epochs: Passes over its pairs; `None` for those of a trial from the start.
    """

    name: str
    only_new: bool = False
    max_epochs: int | None = None


TAKEOVERS = (
    Takeover("all pairs"),
    Takeover("new pairs", only_new=True),
    Takeover("one epoch", max_epochs=1),
)


def run_ways(
    make_runner: MakeRunner,
    data: TextData,
    source: ModelSource,
    settings: TrainingSettings,
    sizes: Sequence[int],
    seed: int,
    takeovers: Sequence[Takeover] = TAKEOVERS,
) -> Iterator[dict[str, Any]]:
    """The trials of one candidate and seed: each size from the start, then each chain of takeovers.

    All chains begin with the trial of the smallest size from the start. Stored trials are not run
    again.

    Args:
        make_runner: See `MakeRunner`.
        data: The task.
        source: The candidate.
        settings: Settings of trials from the start.
        sizes: Sizes D > 0, ascending; subsets are nested.
        seed: Seed of the trials.
        takeovers: The chains.

    Yields:
        One row per way and size: `dataset`, `model`, `seed`, `n_samples`, `way`, `test_loss`, and
        `flops` of this trial alone, `train_flops`, `n_steps`, `best_step`, `seconds`.
    """
    start = make_runner([source], data, settings)
    trials = [Trial(source.name, data.name, n, seed) for n in sizes]
    first = start.attempt(trials[0])
    for trial in trials:
        yield _row(START, trial, start.attempt(trial))
    for takeover in takeovers:
        own = replace(settings, max_epochs=takeover.max_epochs or settings.max_epochs)
        yield _row(takeover.name, trials[0], first)
        folder = start.weights.path(first.trial)
        for smaller, larger in pairwise(trials):
            pairs = new_pairs(data, smaller, larger) if takeover.only_new else data
            runner = make_runner([ModelSource(str(folder), name=source.name)], pairs, own)
            n_samples = len(pairs.train) if takeover.only_new else larger.n_samples
            result = runner.attempt(replace(larger, dataset=pairs.name, n_samples=n_samples))
            folder = runner.weights.path(result.trial)
            yield _row(takeover.name, larger, result)


def new_pairs(data: TextData, smaller: Trial, larger: Trial) -> TextData:
    """The task with those training pairs alone that only the larger of two trials of a seed has."""
    subset = nested_subset(len(data.train), larger.n_samples, larger.seed)
    return make_text_data(
        f"{data.name}, the pairs after the first {smaller.n_samples}",
        list(take(data.train, subset[smaller.n_samples :])),
        data.validation,
        data.test,
        data.max_input_tokens,
        data.max_target_tokens,
    )


def _row(way: str, trial: Trial, result: TrialResult) -> dict[str, Any]:
    names = ("test_loss", "flops", "train_flops", "n_steps", "best_step", "seconds")
    return {
        "dataset": trial.dataset,
        "model": trial.model,
        "family": result.family,
        "seed": trial.seed,
        "n_samples": trial.n_samples,
        "way": way,
        **{name: getattr(result, name) for name in names},
    }
