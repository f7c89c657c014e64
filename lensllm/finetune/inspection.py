"""Checks of a candidate before compute is spent: its token counts, and whether it runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lensllm.data.pairs import TextData
from lensllm.data.rows import nested_subset, take
from lensllm.finetune.encoding import Collator, Example, PairEncoder, target_loss
from lensllm.finetune.models import ModelSource
from lensllm.finetune.probes import probe
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.trial import check_ids, check_targets

logger = logging.getLogger(__name__)

# Training pairs whose tokens are counted one by one.
N_COUNTED = 4096
# Test pairs whose loss is measured before compute is spent.
N_MEASURED = 8
# Shares of the targets' bytes without a token: reported above the first, refused above the second
# if losses are per byte.
LOST_SAID, LOST_REFUSED = 0.001, 0.05
# Weights of pre-trained models are mostly below this size.
USUAL_WEIGHT = 0.1
# Safety margin, in standard errors of a sum, for the tokens of pairs that were not counted.
N_ERRORS = 4.0


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a data set as one candidate sees them.

    Attributes:
        train: Tokens of the training subset by its size D.
        validation: Tokens that all evaluations of a trial on the validation set take, by D.
        test: Tokens of the test set.
        targets: Tokens of the target of each test pair.
        longest: Tokens of the longest input and of the longest target.
        longest_test: Tokens of the input and the target of the longest test pair.
        sample: The first test pairs, at most `N_MEASURED`.
    """

    train: dict[int, float]
    validation: dict[int, int]
    test: int
    targets: tuple[int, ...]
    longest: tuple[int, int]
    longest_test: tuple[int, int]
    sample: tuple[Example, ...]


def count_tokens(
    encoder: PairEncoder,
    source: ModelSource,
    data: TextData,
    settings: TrainingSettings,
    sizes: Sequence[int],
    seed: int,
) -> TokenCounts:
    """Count the tokens of the subsets that trials of one seed train on.

    The counts are exact up to `N_COUNTED` pairs. The tokens of the m pairs beyond are estimated as
    m · mean + `N_ERRORS` · s · √(m (1 + m / N_COUNTED)), with mean and standard deviation s of the
    counted pairs: four standard errors above the expected number, so that a trial costs more in
    only one case of thirty thousand.

    Args:
        encoder: The candidate's encoder.
        source: The candidate.
        data: The data set.
        settings: How much of the validation set a trial evaluates, and how often.
        sizes: Sizes D of the subsets.
        seed: Seed of the subsets.

    Returns:
        The counts.

    Raises:
        ValueError: A split has no pair whose target has a token, or a token has no embedding.
    """
    ends = sorted({min(size, N_COUNTED) for size in sizes if size > 0})
    positions = nested_subset(len(data.train), ends[-1] if ends else 0, seed)
    lengths: list[int] = []
    counted: dict[int, int] = {}
    longest = (0, 0)

    def look(examples: list[Example]) -> list[int]:
        nonlocal longest
        check_ids(examples, source)
        for example in examples:
            longest = max(longest[0], len(example.source)), max(longest[1], len(example.target))
        return [example.n_tokens for example in examples]

    start = 0
    for end in ends:
        part = take(data.train, positions[start:end])
        found = look(encoder.encode(list(part)))
        lengths += [*found, *[0] * (end - start - len(found))]  # those that are dropped
        counted[end] = sum(lengths)
        start = end
    if ends and not counted[ends[-1]]:
        check_targets([], "train", source, data)
    plans = {size: settings.validation(size, len(data.validation)) for size in sizes if size > 0}
    validation = {0: 0}
    for n_pairs in {n_pairs for _, n_pairs in plans.values()} or {len(data.validation)}:
        examples = encoder.encode(list(data.validation[:n_pairs]))
        check_targets(examples, "validation", source, data)
        tokens = sum(look(examples))
        validation |= {n: plan[0] * tokens for n, plan in plans.items() if plan[1] == n_pairs}
    examples = encoder.encode(list(data.test))
    check_targets(examples, "test", source, data)
    test, sample = sum(look(examples)), tuple(examples[:N_MEASURED])
    targets = tuple(len(example.target) for example in examples)
    mean = sum(lengths) / max(1, len(lengths))
    deviation = math.sqrt(sum((n - mean) ** 2 for n in lengths) / max(1, len(lengths) - 1))
    train = {}
    for size in sizes:
        rest = max(0, size - N_COUNTED)
        errors = N_ERRORS * deviation * math.sqrt(rest * (1 + rest / N_COUNTED))
        train[size] = counted.get(min(size, N_COUNTED), 0) + rest * mean + errors
    pair = max(examples, key=lambda example: example.n_tokens)
    longest_test = len(pair.source), len(pair.target)
    return TokenCounts(train, validation, test, targets, longest, longest_test, sample)


def check_lost(encoder: PairEncoder, name: str, unit: str) -> None:
    """Report the share of target bytes without a token; refuse a large one if losses are per byte.

    Text without a token becomes one unknown token, or nothing: the model is not scored on it, and
    two candidates that lack different text are not scored on the same text.

    Args:
        encoder: The candidate's encoder, after the test pairs were encoded.
        name: Name of the candidate.
        unit: What candidates are compared by, `token` or `byte`.

    Raises:
        ValueError: More than `LOST_REFUSED` of the bytes are lost, and losses are per byte.
    """
    share = encoder.counts.lost_share
    if share <= LOST_SAID:
        return
    words = f"{share:.1%} of the bytes of the targets have no token in the vocabulary of {name}"
    if unit == "byte" and share > LOST_REFUSED:
        raise ValueError(
            f"Expected targets that a candidate can spell, but for {LOST_REFUSED:.0%} of their "
            f"bytes, got more: {words}, so that its loss per byte is of another text; take a model "
            "of the targets' language, or leave it out"
        )
    logger.warning(
        "%s: they become the unknown token, and its loss does not tell them apart", words
    )


def first_lost_weight(dtype: torch.dtype, learning_rate: float) -> float:
    """Smallest size of a weight at which updates of about the learning rate are rounded away.

    Floating-point neighbours of a weight w lie |w| ε / 2 to |w| ε apart, so that an update below
    |w| ε / 4 changes nothing.

    Args:
        dtype: Type that the weights are kept in.
        learning_rate: Learning rate η; Adam's updates are about as large.

    Example:
        >>> first_lost_weight(torch.bfloat16, 1e-5)
        0.00512
    """
    return 4.0 * learning_rate / torch.finfo(dtype).eps


def measure_pairs(
    source: ModelSource,
    pad_token_id: int | None,
    examples: Sequence[Example],
    unit: str = "token",
) -> float:
    """Loss of a few pairs before fine-tuning, on the CPU, in nats per target token or byte.

    Raises:
        ValueError: The candidate cannot be loaded, attends to future tokens, or its loss is not
            finite.
    """
    model = source.load_model().eval()
    pad = source.padding(pad_token_id)
    padding = probe(model, source, examples, pad)
    collate = Collator(pad, is_encoder_decoder=source.is_encoder_decoder, padding=padding)
    batches = [examples] if padding != "none" else [[example] for example in examples]
    with torch.no_grad():
        found = [target_loss(model, collate(batch)) for batch in batches]
    count = sum(int(n_targets) for _, n_targets in found)
    size = count if unit == "token" else sum(example.n_bytes for example in examples)
    loss = sum(float(total) for total, _ in found) / size
    if not math.isfinite(loss):
        raise ValueError(
            f"Expected a finite loss of {source.name} before fine-tuning, got {loss}: are its "
            "weights damaged?"
        )
    return loss
