"""Measures of a fine-tuned model's answers: what is measured, on which test pairs, at what cost.

Answers come from greedy decoding; where all targets of a data set are among a few labels, the
answer is the label with the largest likelihood.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lensllm.core.measures import MEASURES, Measure, measure_named
from lensllm.core.trials import MeasureValue, digest_of
from lensllm.data.pairs import TextData
from lensllm.data.rows import nested_subset, take
from lensllm.finetune.encoding import Collator, EncodingCounts, PairEncoder
from lensllm.finetune.generation import greedy_answers
from lensllm.finetune.label_likelihood import label_log_likelihoods, with_labels
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.text_scores import decisive, score

# Incremented when the same settings lead to another value than before.
RECIPE = 1
# A set of labels is closed if there are at most so many, each with so many pairs on average.
MAX_LABELS, PAIRS_PER_LABEL = 64, 10
N_SHOWN = 8  # labels that a summary names
N_SEARCHED = 5000  # training pairs in which labels are looked for
FEWEST_EXAMPLES = 100  # test pairs that are measured whatever they cost
CHARACTERS = 4  # of a token, about


@dataclass(frozen=True)
class MeasuringSettings:
    """How a model's answers are measured.

    Attributes:
        also: Further measures to record, beside the one that ranks.
        labels: `auto` finds out whether the targets are a closed set of labels; `none` always
            decodes answers; or a list of all labels.
        share: Most of a trial's planned training FLOPs that measuring may take, in (0, 1); on small
            subsets D fewer test pairs are measured, but at least `FEWEST_EXAMPLES`. `None` measures
            all.
        max_new_tokens: Most tokens of a decoded answer; by default those of the longest target of
            the test set.

    Raises:
        ValueError: A value is out of range.
    """

    also: Sequence[str | Mapping[str, Any]] = ()
    labels: str | Sequence[str] = "auto"
    share: float | None = 0.25
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.also, str):
            raise ValueError(f"Expected a list as measuring.also, got {self.also!r}")
        if isinstance(self.labels, str) and self.labels not in ("auto", "none"):
            raise ValueError(
                f"Expected auto, none or a list of labels as measuring.labels, got {self.labels!r}"
            )
        share = self.share
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if share is not None and not (is_number and 0 < share < 1):
            raise ValueError(f"Expected measuring.share in (0, 1) or null, got {share!r}")
        most = self.max_new_tokens
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValueError(f"Expected measuring.max_new_tokens >= 1 or null, got {most!r}")


def closed_labels(data: TextData) -> tuple[str, ...] | None:
    """The labels of a data set whose targets are a closed set; `None` for free texts.

    They are the distinct targets of test, validation and the first `N_SEARCHED` training pairs.
    """
    train = take(data.train, np.arange(min(len(data.train), N_SEARCHED)))
    n_pairs = len(train) + len(data.validation) + len(data.test)
    labels: set[str] = set()
    for pairs in (data.test, data.validation, train):
        for _, target in pairs:
            labels.add(target)
            if len(labels) > min(MAX_LABELS, n_pairs / PAIRS_PER_LABEL):
                return None
    return tuple(sorted(labels))


def classes_of(labels: Sequence[str], data: TextData) -> dict[str, Any]:
    """The classes of a data set, and what the most frequent answer alone would reach.

    Args:
        labels: All labels, see `closed_labels`.
        data: The data set.

    Returns:
        `n`, their number; `first`, some of them; `majority`, the most frequent one in the test set,
        and `majority_share`, its share there: the accuracy of always giving this answer.
    """
    ((majority, count),) = Counter(target for _, target in data.test).most_common(1)
    return {
        "n": len(labels),
        "first": list(labels[:N_SHOWN]),
        "majority": majority,
        "majority_share": count / len(data.test),
    }


@dataclass(frozen=True)
class Measuring:
    """What is measured on one data set.

    Attributes:
        measures: The measures; none of them is a loss.
        labels: All labels; `None` where answers are decoded.
        settings: How.
        unit: Cost of measuring one pair, in forward passes over an average pair.
    """

    measures: tuple[Measure, ...]
    labels: tuple[str, ...] | None
    settings: MeasuringSettings
    unit: float

    @classmethod
    def of(cls, measure: Measure, settings: MeasuringSettings, data: TextData) -> Measuring | None:
        """What a runner measures; `None` if that is nothing but losses.

        Raises:
            ValueError: A measure cannot be computed or is unknown, the accuracy of free texts is
                asked for, or a target of the test set is not among the labels.
        """
        asked = {item.name: item for item in (measure, *map(measure_named, settings.also))}
        wanted = tuple(asked[name] for name in sorted(asked) if not asked[name].is_loss)
        if not wanted:
            return None
        for item in wanted:
            decisive(item)
        labels = _labels(settings, data)
        if labels is None and MEASURES["accuracy"] in wanted:
            raise ValueError(
                f"Expected a closed set of labels for measure=accuracy, at most {MAX_LABELS} of "
                f"them, got free texts in {data.name!r}: take measure=exact_match, or list them as "
                "runner.measuring.labels=[...]"
            )
        return cls(wanted, labels, settings, _unit(labels, data))

    def n_examples(self, n_samples: int, n_test: int, training: TrainingSettings) -> int:
        """Test pairs that a trial on `n_samples` measures: the same number for every candidate.

        Training costs three times a forward pass, so that n pairs take the share s of it when
        n · unit = s · 3 · epochs · D.
        """
        if self.settings.share is None:
            return n_test
        most = self.settings.share * 3.0 * training.max_epochs * n_samples / self.unit
        return min(n_test, max(FEWEST_EXAMPLES, int(most)))

    def test_pairs(
        self, n_samples: int, data: TextData, training: TrainingSettings
    ) -> Sequence[tuple[str, str]]:
        """The pairs: the first of one permutation of the test set, whatever the candidate."""
        n = self.n_examples(n_samples, len(data.test), training)
        return list(take(data.test, np.sort(nested_subset(len(data.test), n, 0))))

    def tokens(
        self, n_samples: int, training: TrainingSettings, n_test: int, source: float, target: int
    ) -> float:
        """Most tokens that measuring takes of a candidate, whose pairs have some tokens.

        Args:
            n_samples: Size D of the trial.
            training: Its settings.
            n_test: Pairs of the test set.
            source: Mean tokens of its prompts.
            target: Tokens of its longest target.
        """
        most = self.settings.max_new_tokens or target
        answers = most if self.labels is None else target * len(self.labels)
        return self.n_examples(n_samples, n_test, training) * (source + answers)

    def decisive(self) -> dict[str, Any]:
        """What decides the values, in JSON types, for a trial's key."""
        settings = self.settings
        return {
            "recipe": RECIPE,
            "measures": {item.name: decisive(item) for item in self.measures},
            "labels": None if self.labels is None else digest_of(list(self.labels)),
            "share": settings.share,
            "max_new_tokens": None if self.labels is not None else settings.max_new_tokens,
        }


def _labels(settings: MeasuringSettings, data: TextData) -> tuple[str, ...] | None:
    """The closed set of labels, detected or given."""
    if settings.labels == "none":
        return None
    if settings.labels == "auto":
        return closed_labels(data)
    labels = tuple(map(str, settings.labels))
    if len(set(labels)) < max(2, len(labels)):
        raise ValueError(
            f"Expected at least two distinct measuring.labels, got {', '.join(labels) or 'none'}"
        )
    for row, (_, target) in enumerate(data.test, start=1):
        if target not in labels:
            raise ValueError(
                f"Expected test targets among measuring.labels ({', '.join(labels[:8])}), got "
                f"{target!r} in pair {row}: add it, or measuring.labels=none decodes answers"
            )
    return labels


def _unit(labels: Sequence[str] | None, data: TextData) -> float:
    """Forward passes over an average pair that the answer to one input takes, from characters."""
    if labels is None:
        return 1.0
    longest = CHARACTERS * data.max_input_tokens
    given = sum(min(len(a), longest) for a, _ in data.test) / len(data.test)
    target = sum(len(b) for _, b in data.test) / len(data.test)
    return (given + sum(map(len, labels))) / (given + target)


class Measurer(Callback):
    """Measures the answers at the end of the test loop, where model and precision are in place.

    Args:
        measuring: What is measured.
        pairs: The test pairs.
        encoder: The candidate's encoder.
        collate: The trial's collator.
        batch_size: Examples per batch.
        longest: Tokens of the longest target of the test set.

    Attributes:
        values: The values by name, after the test loop.
    """

    def __init__(
        self,
        measuring: Measuring,
        pairs: Sequence[tuple[str, str]],
        encoder: PairEncoder,
        collate: Collator,
        batch_size: int,
        longest: int,
    ) -> None:
        self.measuring = measuring
        self.pairs = pairs
        # A copy, so that the counts of the trial's own pairs stay what they are.
        self.encoder = copy.copy(encoder)
        self.encoder.counts = EncodingCounts()
        if encoder.truncation_side == "drop":  # no example is left out of a measure
            self.encoder.truncation_side = "right"
        self.collate = collate
        self.batch_size = batch_size
        self.longest = longest
        self.values: dict[str, MeasureValue] = {}

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Measure, and count the tokens as evaluation, unless the test loss is not finite.

        Raises:
            ValueError: A measure returns something else than finite scores within its bound.
        """
        if not math.isfinite(float(trainer.callback_metrics["test_loss"])):
            return
        with trainer.precision_plugin.forward_context():
            answers, n_tokens = self.answers(pl_module.model)
        pl_module.n_evaluation_tokens += n_tokens
        references = [target for _, target in self.pairs]
        self.values = {
            item.name: score(item, answers, references, self.measuring.labels)
            for item in self.measuring.measures
        }

    def answers(self, model: Any) -> tuple[list[str], int]:
        """The model's answers to all inputs, and the tokens that were processed."""
        inputs, labels = [given for given, _ in self.pairs], self.measuring.labels
        if labels is not None:
            rows = with_labels(self.encoder, inputs, labels)
            likelihoods, n_tokens = label_log_likelihoods(
                model, rows, self.collate, self.batch_size
            )
            return [labels[k] for k in likelihoods.argmax(axis=1)], n_tokens
        return greedy_answers(
            model,
            self.encoder,
            self.encoder.prompts(inputs),
            min(
                self.measuring.settings.max_new_tokens or self.longest,
                self.encoder.max_target_tokens,
            ),
            pad_token_id=self.collate.pad_token_id,
            padding=self.collate.padding,
            batch_size=self.batch_size,
        )
