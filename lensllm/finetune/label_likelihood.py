"""The likelihood of every label of a closed set, given an input.

A label's score is the sum of the log-probabilities of all its tokens, the end token included, as in
the test loss: log p(label | input). It is not divided by the label's length, so that the scores of
a set of labels are one distribution over texts, of which the largest is chosen. A label that is
longer is less likely for this reason, as it is for the model that is to say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from lensllm.finetune.encoding import (
    IGNORED,
    Collator,
    Example,
    PairEncoder,
    decoder_inputs,
    example_losses,
)

Labelled = tuple[Example, ...]  # one input with each label


def with_labels(
    encoder: PairEncoder, inputs: Sequence[str], labels: Sequence[str]
) -> list[Labelled]:
    """Every input with every label, encoded as pairs in training are.

    Raises:
        ValueError: A label has no token.
    """
    examples = encoder.encode([(given, label) for given in inputs for label in labels])
    if len(examples) != len(inputs) * len(labels):
        raise ValueError(
            f"Expected labels with at least one token in the vocabulary of "
            f"{encoder.tokenizer.name_or_path}, got one without among {', '.join(labels)}"
        )
    width = len(labels)
    return [tuple(examples[i : i + width]) for i in range(0, len(examples), width)]


def label_log_likelihoods(
    model: Any, rows: Sequence[Labelled], collate: Collator, batch_size: int
) -> tuple[np.ndarray, int]:
    """The log-likelihood of every label given every input, log p(label | input) in nats.

    What all labels of an input have in common is processed once where the model's cache permits it.

    Args:
        model: A causal or encoder-decoder model in eval mode.
        rows: See `with_labels`.
        collate: The collator of the trial.
        batch_size: Most labels that go through the model at once; at least those of one input.

    Returns:
        Shape (n_inputs, n_labels), and the tokens that the model processed.
    """
    width = len(rows[0])
    found = np.empty((len(rows), width))
    shared = [i for i, row in enumerate(rows) if len({example.source for example in row}) == 1]
    if not (model.config.is_encoder_decoder or collate.padding == "left"):
        shared = []
    shared.sort(key=lambda i: len(rows[i][0].source))
    step = max(1, batch_size // width) if collate.padding != "none" else 1
    n_tokens, alone = 0, sorted(set(range(len(rows))).difference(shared))
    with torch.inference_mode():
        for start in range(0, len(shared), step):
            part = shared[start : start + step]
            scores = _shared_prompt(model, [rows[i] for i in part], collate)
            if scores is None:  # a cache that cannot be repeated, as of recurrent layers
                alone += shared[start:]
                break
            found[part] = scores.double().cpu().numpy()
            n_tokens += sum(len(rows[i][0].source) for i in part)
            n_tokens += sum(len(example.target) for i in part for example in rows[i])
        flat = [(i, k) for i in alone for k in range(width)]
        step = batch_size if collate.padding != "none" else 1
        for start in range(0, len(flat), step):
            cells = flat[start : start + step]
            examples = [rows[i][k] for i, k in cells]
            batch = {name: part.to(model.device) for name, part in collate(examples).items()}
            for cell, loss in zip(cells, example_losses(model, batch)[0].tolist(), strict=True):
                found[cell] = -loss
            n_tokens += sum(example.n_tokens for example in examples)
    return found, n_tokens


def _shared_prompt(model: Any, rows: Sequence[Labelled], collate: Collator) -> Tensor | None:
    """Scores of a few inputs whose prompts are the same with every label, (n_inputs, n_labels).

    Returns:
        `None` where the model's cache cannot be repeated for several labels.
    """
    width = len(rows[0])
    labels = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(example.target) for row in rows for example in row],
        batch_first=True,
        padding_value=IGNORED,
    ).to(model.device)
    # One token of target stands for all: a decoder's row is the prompt alone.
    prompts = [Example(row[0].source, row[0].target[:1], 1) for row in rows]
    batch = {name: part.to(model.device) for name, part in collate(prompts).items()}
    if model.config.is_encoder_decoder:
        logits = _decoder_logits(model, batch, labels, width)
    else:
        logits = _continued_logits(model, batch, labels, width)
    if logits is None:
        return None
    logits = logits if logits.dtype == torch.float64 else logits.float()
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    return -losses.sum(dim=1).reshape(len(rows), width)


def _decoder_logits(model: Any, batch: dict[str, Tensor], labels: Tensor, width: int) -> Tensor:
    """Logits of an encoder-decoder whose encoder reads each input once."""
    mask = batch["attention_mask"]
    states = model.get_encoder()(input_ids=batch["input_ids"], attention_mask=mask)
    repeated = states.last_hidden_state.repeat_interleave(width, dim=0)
    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=repeated),
        attention_mask=mask.repeat_interleave(width, dim=0),
        decoder_input_ids=decoder_inputs(model, labels),
        use_cache=False,
    ).logits


def _continued_logits(
    model: Any, batch: dict[str, Tensor], labels: Tensor, width: int
) -> Tensor | None:
    """Logits of a decoder that reads each prompt once and continues it with every label."""
    mask = batch["attention_mask"]
    given = {"input_ids": batch["input_ids"], "attention_mask": mask, "use_cache": True}
    takes_positions = (
        "position_ids" in batch and "position_ids" in signature(model.forward).parameters
    )
    if takes_positions:
        given["position_ids"] = batch["position_ids"]
    first = model(**given)
    cache = first.past_key_values
    start = first.logits[:, -1:].repeat_interleave(width, dim=0)
    if labels.shape[1] == 1:
        return start
    if not isinstance(cache, DynamicCache):
        return None
    cache.batch_repeat_interleave(width)
    rest = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, int(labels[0, 0]))
    mask = mask.repeat_interleave(width, dim=0)
    given = {
        "input_ids": rest,
        "attention_mask": torch.cat([mask, torch.ones_like(rest)], dim=1),
        "past_key_values": cache,
        "use_cache": True,
    }
    if takes_positions:
        steps = torch.arange(rest.shape[1], device=rest.device)
        given["position_ids"] = mask.sum(dim=1, keepdim=True) + steps
    return torch.cat([start, model(**given).logits], dim=1)
