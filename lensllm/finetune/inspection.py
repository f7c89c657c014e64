"""What is known of a candidate before anything is spent: its tokens, and whether it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lensllm.data.pairs import TextData
from lensllm.data.rows import nested_subset, take
from lensllm.finetune.encoding import Collator, Example, PairEncoder, target_loss
from lensllm.finetune.models import ModelSource
from lensllm.finetune.settings import TrainingSettings
from lensllm.finetune.trial import check_ids, check_targets

# Training pairs whose tokens are counted one by one.
N_COUNTED = 4096
# Test pairs that are measured before anything is spent.
N_MEASURED = 8
# Standard errors of a sum that are reserved for pairs which were not counted.
N_ERRORS = 4.0


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a data set as one candidate sees them.

    Attributes:
        train: Tokens of the training subset by its size D.
        validation: Tokens that all evaluations of a trial on the validation set take, by D.
        test: Tokens of the test set.
        longest: Tokens of the longest input and of the longest target.
        sample: The first test pairs, at most `N_MEASURED`.
    """

    train: dict[int, float]
    validation: dict[int, int]
    test: int
    longest: tuple[int, int]
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

    The counts are exact up to `N_COUNTED` pairs. What lies beyond, m pairs, is taken at
    m · mean + `N_ERRORS` · s · √(m (1 + m / N_COUNTED)), with mean and standard deviation s of the
    counted pairs: four standard errors above what is expected, so that a trial costs no more but in
    one case of thirty thousand.

    Args:
        encoder: The candidate's encoder.
        source: The candidate.
        data: The data set.
        settings: How much of the validation set a trial looks at, and how often.
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
    mean = sum(lengths) / max(1, len(lengths))
    deviation = math.sqrt(sum((n - mean) ** 2 for n in lengths) / max(1, len(lengths) - 1))
    train = {}
    for size in sizes:
        rest = max(0, size - N_COUNTED)
        errors = N_ERRORS * deviation * math.sqrt(rest * (1 + rest / N_COUNTED))
        train[size] = counted.get(min(size, N_COUNTED), 0) + rest * mean + errors
    return TokenCounts(train, validation, test, longest, sample)


def measure_pairs(
    source: ModelSource,
    pad_token_id: int | None,
    examples: Sequence[Example],
    unit: str = "token",
) -> float:
    """Loss of a few pairs before fine-tuning, on the CPU, in nats per target token or byte.

    Raises:
        ValueError: The candidate cannot be loaded, or its loss is not finite.
    """
    collate = Collator(source.padding(pad_token_id), is_encoder_decoder=source.is_encoder_decoder)
    model = source.load_model().eval()
    with torch.no_grad():
        total, count = target_loss(model, collate(examples))
    size = float(count) if unit == "token" else sum(example.n_bytes for example in examples)
    loss = float(total) / size
    if not math.isfinite(loss):
        raise ValueError(
            f"Expected a finite loss of {source.name} before fine-tuning, got {loss}: are its "
            "weights damaged?"
        )
    return loss
