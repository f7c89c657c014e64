"""Probes of a loaded model: does a position attend to later tokens, does padding change losses?

Neither can be read off a name: any architecture can be configured to attend in both directions, and
some kinds of layers run over padding as if it were text.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lensllm.finetune.encoding import Collator, Example, Padding, decoder_inputs, example_losses

logger = logging.getLogger(__name__)

# Tokens of the input and of the target that are looked at.
N_SOURCE, N_TARGET = 12, 6
SMALL = 100_000_000  # parameters; up to here a copy in float32 costs little


def probe(model: Any, source: Any, examples: Sequence[Example], pad_token_id: int) -> Padding:
    """Refuse a model that attends to future tokens, and find how its batches have to be padded.

    Args:
        model: The loaded model, on any device.
        source: The candidate, a `ModelSource`.
        examples: Some of its examples.
        pad_token_id: Token id of padding.

    Raises:
        ValueError: It attends to future tokens (see `check_causal`).
    """
    example = probe_example(examples)
    was_training = model.training
    model.eval()
    check_causal(_precise(model), example, source.name)
    padding = find_padding(model, example, pad_token_id)
    model.train(was_training)
    if padding == "none":
        logger.warning(
            "%s: padding changes its losses on either side: its examples go through one at a time",
            source.name,
        )
    return padding


def probe_example(examples: Sequence[Example]) -> Example:
    """The example with the most target tokens, cut to a few, with at least three target tokens."""
    longest = max(examples, key=lambda example: (len(example.target), len(example.source)))
    target = longest.target[:N_TARGET]
    return Example(longest.source[-N_SOURCE:], target if len(target) > 2 else target * 3, 1)


def check_causal(model: Any, example: Example, name: str) -> None:
    """Refuse a model whose prediction of a target token moves with that token or later ones.

    Args:
        model: A causal or encoder-decoder model in eval mode.
        example: See `probe_example`.
        name: The candidate, for the error.

    Raises:
        ValueError: Its logits move by more than rounding.
    """
    source = torch.tensor([example.source], device=model.device)
    if model.config.is_encoder_decoder:
        labels = torch.tensor([example.target], device=model.device)
        row, first = decoder_inputs(model, labels)[0], 1
    else:
        row = torch.tensor([*example.source, *example.target[:-1]], device=model.device)
        first = len(example.source)
    other = _others(row)
    all_changed, last_changed = row.clone(), row.clone()
    all_changed[first:], last_changed[-1] = other[first:], other[-1]
    rows = torch.stack([row, all_changed, last_changed])
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            inputs = {"input_ids": source.expand(3, -1), "decoder_input_ids": rows}
        else:
            inputs = {"input_ids": rows}
        plain, all_moved, last_moved = model(**inputs, use_cache=False).logits.float()
    moved = max(
        float((plain - all_moved)[first - 1].abs().max()),
        float((plain - last_moved)[first - 1 : -1].abs().max()),
    )
    size = float(plain.abs().max())
    # Same shapes give the same numbers; only the routing of experts changes their rounding.
    if moved > max(1e-5, 2.0 * _rounding(model)) * size:
        raise ValueError(
            f"Expected a model that predicts each token from those before it, got {name} "
            f"({type(model).__name__}): its logits for a target token (up to {size:.2g}) move by "
            f"{moved:.2g} with that token and later ones, so that its loss says nothing. It fills "
            "gaps, as masked models do: take a causal or an encoder-decoder model, or set "
            "`is_decoder: true` in its config.json if it was trained as a decoder"
        )


def find_padding(model: Any, example: Example, pad_token_id: int) -> Padding:
    """The way of padding that does not change losses.

    Losses of a short and a long example in one batch are compared with those of plain forward
    passes of one example each, without a mask.

    Args:
        model: A causal or encoder-decoder model in eval mode.
        example: See `probe_example`.
        pad_token_id: Token id of padding.

    Returns:
        `left` (`right` for an encoder-decoder) where that leaves losses unchanged, else `right`;
        `none`, which is one example at a time, where every padding changes them.
    """
    is_encoder_decoder = bool(model.config.is_encoder_decoder)
    short = Example(example.source[: -(-len(example.source) // 2)], example.target[:2], 1)
    examples = [example, short]
    plain = torch.stack([_plain_loss(model, one) for one in examples])
    tolerance = max(1e-5, _rounding(model)) * (1.0 + plain)
    ways: list[Padding] = ["right"] if is_encoder_decoder else ["left", "right"]
    for padding in ways:
        collate = Collator(pad_token_id, is_encoder_decoder=is_encoder_decoder, padding=padding)
        batch = {name: part.to(model.device) for name, part in collate(examples).items()}
        with torch.no_grad():
            sums, counts = example_losses(model, batch)
        if bool(((sums / counts - plain).abs() <= tolerance).all()):
            return padding
    return "none"


def _plain_loss(model: Any, example: Example) -> Tensor:
    """Mean cross-entropy of an example's target by one forward pass over it alone."""
    source, target = (
        torch.tensor([part], device=model.device) for part in (example.source, example.target)
    )
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            given = decoder_inputs(model, target)
            logits = model(input_ids=source, decoder_input_ids=given, use_cache=False).logits[0]
        else:
            row = torch.cat([source, target], dim=1)
            logits = model(input_ids=row, use_cache=False).logits[0, len(example.source) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits.float(), target[0])


def _precise(model: Any) -> Any:
    """A small model in float32: half precision rounds small moves of its logits away."""
    is_small = model.num_parameters() < SMALL and not getattr(model, "is_quantized", False)
    is_half = model.dtype in (torch.bfloat16, torch.float16)
    return copy.deepcopy(model).float() if is_small and is_half else model


def _others(row: Tensor) -> Tensor:
    """Another id of the same row for each of its ids, so that no image token, say, comes in."""
    found = row.unique()
    if len(found) == 1:
        return torch.where(row > 0, row - 1, row + 1)
    return found[(torch.searchsorted(found, row) + 1) % len(found)]


def _rounding(model: Any) -> float:
    return float(torch.finfo(model.dtype).eps)
