"""Static features: what is known of a model and a data set before any training."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lensllm.core.trials import TrialResult
from lensllm.data.pairs import Pair, TextData

N_SAMPLED_PAIRS = 512
FAMILY = "family_"  # a flag for each family; only a model's own is among its features


@dataclass(frozen=True)
class Feature:
    """One number, with its unit and its cost in FLOPs.

    Attributes:
        name: Name of the column.
        value: The number.
        unit: Its unit; `1` for ratios and flags.
        flops: FLOPs of the model that it cost; 0 for what is read off configs, weights or text.
    """

    name: str
    value: float
    unit: str
    flops: float = 0.0


def static_features(
    source: Any,
    data: TextData,
    zero_shot: TrialResult | None = None,
    ntk: Any = None,
    spectra: Mapping[str, float] | None = None,
    n_pairs: int = N_SAMPLED_PAIRS,
) -> tuple[Feature, ...]:
    """All static features of one model on one data set.

    Args:
        source: A `lensllm.finetune.models.ModelSource`; its weights are not loaded.
        data: The data set.
        zero_shot: Result of the trial with D = 0; the losses before training, where there is one.
        ntk: A `lensllm.curvature.provider.NTKRecord`, where it was computed.
        spectra: `pl_alpha` and `e_tpl_lambda`, where they were computed.
        n_pairs: Training pairs that text statistics are taken over, the first ones.

    Returns:
        The features, in a fixed order.
    """
    pairs = list(data.train[:n_pairs])
    features = [*model_features(source), *tokenizer_features(source, pairs)]
    features += data_features(data, n_pairs)
    if zero_shot is not None:
        features += zero_shot_features(zero_shot)
    if spectra is not None:
        features += [
            Feature("pl_alpha", spectra["pl_alpha"], "1"),
            Feature("e_tpl_lambda", spectra["e_tpl_lambda"], "1 / eigenvalue"),
        ]
    if ntk is not None:
        features += ntk_features(ntk)
    return tuple(features)


def model_features(source: Any) -> Iterator[Feature]:
    """Size, family and architecture, read off the config."""
    config = source.config
    yield Feature("log10_params", math.log10(source.n_params), "log10 parameters")
    yield Feature(f"{FAMILY}{config.model_type}", 1.0, "1")
    yield Feature("is_encoder_decoder", float(source.is_encoder_decoder), "1")
    for name, attributes, unit in (
        ("width", ("hidden_size", "n_embd", "d_model"), "dimensions"),
        ("n_layers", ("num_hidden_layers", "n_layer", "num_layers"), "layers"),
    ):
        values = [getattr(config, key, None) for key in attributes]
        known = [float(value) for value in values if value]
        if known:
            yield Feature(name, known[0], unit)


def tokenizer_features(source: Any, pairs: Sequence[Pair]) -> Iterator[Feature]:
    """Fertility: tokens of the model's tokenizer per word of input or target."""
    tokenizer = source.load_tokenizer()
    for name, position in (("fertility_input", 0), ("fertility_target", 1)):
        texts = [pair[position] for pair in pairs]
        n_tokens = sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
        n_words = sum(len(text.split()) for text in texts)
        yield Feature(name, n_tokens / max(n_words, 1), "tokens / word")


def data_features(data: TextData, n_pairs: int = N_SAMPLED_PAIRS) -> Iterator[Feature]:
    """Size and text statistics; the same for all models on a data set."""
    pairs = data.train[:n_pairs]
    inputs, targets = zip(*pairs, strict=True)
    yield Feature("log10_pairs", math.log10(len(data.train)), "log10 training pairs")
    yield Feature("input_words", _mean_words(inputs), "words / input")
    yield Feature("target_words", _mean_words(targets), "words / target")
    words = [word.lower() for target in targets for word in target.split()]
    yield Feature("type_token_ratio", len(set(words)) / max(len(words), 1), "1")
    yield Feature("compression_ratio", compression_ratio("\n".join(targets)), "1")
    yield Feature("target_in_input", _overlap(pairs), "1")
    yield Feature("distinct_targets", len(set(targets)) / len(targets), "1")


def zero_shot_features(result: TrialResult) -> Iterator[Feature]:
    """Losses of the model as it is; they cost an evaluation on the test set."""
    yield Feature("zero_shot_loss", result.test_loss, "nats / token", result.flops)
    yield Feature("zero_shot_loss_per_byte", result.test_loss_per_byte, "nats / byte")


def ntk_features(record: Any) -> Iterator[Feature]:
    """F(Θ, 0), mean eigenvalue of Θ, and effective rank (tr Θ)² / tr Θ² per probe example."""
    values = record.curve.eigenvalues
    rank = float(values.sum() ** 2 / (values**2).sum())
    yield Feature("ntk_start", float(record.curve(0.0)), "nats²", record.flops)
    yield Feature("ntk_log10_mean", float(np.log10(values.mean())), "log10 (nats / parameter)²")
    yield Feature("ntk_rank", rank / len(values), "1")


def compression_ratio(text: str) -> float:
    """Bytes after DEFLATE as a share of those before: low for repetitive text.

    Example:
        >>> compression_ratio("abc" * 1000) < 0.02
        True
    """
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / max(len(raw), 1)


def _mean_words(texts: Sequence[str]) -> float:
    return float(np.mean([len(text.split()) for text in texts]))


def _overlap(pairs: Sequence[Pair]) -> float:
    """Mean share of a target's words that are in its input, ignoring case and punctuation."""
    shares = []
    for source, target in pairs:
        known = {word.strip(".,:;").lower() for word in source.split()}
        words = [word.strip(".,:;").lower() for word in target.split()]
        shares.append(sum(word in known for word in words) / max(len(words), 1))
    return float(np.mean(shares))
