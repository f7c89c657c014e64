"""Probe batches, and a forward pass of any language model that can be differentiated at will.

Attention as `transformers` computes it by default cannot be vectorised over examples (its masks
depend on the data) nor differentiated twice (its CPU kernel has no double backward). Both work with
`eager` attention and additive masks of floating type with the causal triangle written out. A
*boolean* mask of that shape gives wrong gradients without an error, so none is ever built here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100

Batch = Mapping[str, Tensor]


def mean_log_prob(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of the target tokens of each example, the default f(x) of the NTK.

    Args:
        logits: Shape (n_examples, n_targets, n_vocabulary).
        labels: Target tokens, `IGNORED` in padding, shape (n_examples, n_targets).

    Returns:
        Shape (n_examples,), in nats per token, in float32 or better; its ideal value is 0.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    real = labels != IGNORED
    chosen = logits.gather(-1, labels.where(real, 0)[..., None])[..., 0]
    log_probs = (chosen - logits.logsumexp(dim=-1)).where(real, 0.0)
    return log_probs.sum(dim=-1) / real.sum(dim=-1)


def check_probe(batch: Batch) -> dict[str, Tensor]:
    """Check a probe batch and keep only what the model needs.

    Args:
        batch: `input_ids` and `attention_mask` (1 for real tokens) of shape (n_examples, length),
            and `labels` of shape (n_examples, n_targets) with `IGNORED` in padding. The labels of a
            decoder-only model belong to its last n_targets positions, each to the token *after*
            it; its padding may be on either side. An encoder-decoder's is on the right.

    Returns:
        The three tensors.

    Raises:
        ValueError: A tensor is missing, shapes disagree, or an example has no target token.
    """
    for name in ("input_ids", "attention_mask", "labels"):
        if name not in batch:
            raise ValueError(
                f"Expected a probe batch with input_ids, attention_mask and labels, got "
                f"{', '.join(sorted(batch))}: {name} is missing"
            )
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    if ids.ndim != 2 or mask.shape != ids.shape or labels.ndim != 2 or len(labels) != len(ids):
        raise ValueError(
            "Expected input_ids and attention_mask of one shape (n_examples, length) and labels of "
            f"shape (n_examples, n_targets), got {tuple(ids.shape)}, {tuple(mask.shape)} and "
            f"{tuple(labels.shape)}"
        )
    empty = torch.nonzero((labels != IGNORED).sum(dim=1) == 0)
    if len(empty):
        raise ValueError(
            f"Expected at least one target token in every probe example, got none in example "
            f"{int(empty[0])}"
        )
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def take(batch: Batch, rows: Tensor, *, is_encoder_decoder: bool) -> dict[str, Tensor]:
    """Some examples of a batch, without the columns that are padding in all of them."""
    ids, mask, labels = (batch[n][rows] for n in ("input_ids", "attention_mask", "labels"))
    used = torch.nonzero(mask.any(dim=0))[:, 0]
    wanted = torch.nonzero((labels != IGNORED).any(dim=0))[:, 0]
    if is_encoder_decoder:
        last = int(used[-1]) + 1
        labels = labels[:, : int(wanted[-1]) + 1]
        return {"input_ids": ids[:, :last], "attention_mask": mask[:, :last], "labels": labels}
    n_behind = ids.shape[1] - 1 - int(used[-1])
    if n_behind:
        labels = labels[:, :-n_behind]
    kept = slice(int(used[0]), int(used[-1]) + 1)
    return {
        "input_ids": ids[:, kept],
        "attention_mask": mask[:, kept],
        "labels": labels[:, int(wanted[0]) :],
    }


def model_inputs(model: Any, batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """Arguments of the model's forward pass, all with the examples as their first axis.

    Args:
        model: A causal or encoder-decoder model of `transformers`.
        batch: See `check_probe`.
        dtype: Floating type of the model, which the additive masks take.

    Raises:
        ValueError: Sequences are longer than the model's attention window.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    length = ids.shape[1]
    window = getattr(model.config, "sliding_window", None)
    if isinstance(window, int) and length > window:
        raise ValueError(
            f"Expected probe examples of at most {window} tokens, the model's attention window, "
            f"got {length}: shorten max_input_tokens"
        )
    # Some models take the softmax in float32, where the lowest float64 is minus infinity.
    lowest = max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)
    hidden = (mask == 0)[:, None, None, :]
    if model.config.is_encoder_decoder:
        return {
            "input_ids": ids,
            "attention_mask": torch.zeros(hidden.shape, dtype=dtype, device=ids.device).masked_fill(
                hidden, lowest
            ),
            "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"]),
        }
    future = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
    # Padding sees itself, so that no row of the softmax is empty; nothing real sees padding.
    itself = torch.eye(length, dtype=torch.bool, device=ids.device)
    blocked = (hidden & ~itself) | future
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.zeros(blocked.shape, dtype=dtype, device=ids.device).masked_fill(
            blocked, lowest
        ),
    }
    if "position_ids" in _forward_parameters(model):
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return inputs


def functional_logits(
    model: Any, params: Mapping[str, Tensor], inputs: Mapping[str, Tensor], n_targets: int
) -> Tensor:
    """Logits at the last `n_targets` positions, as a function of some of the parameters.

    Args:
        model: The model, inside `differentiable`.
        params: Values to use in place of the model's own, by name; a tied one counts everywhere.
        inputs: What `model_inputs` returns.
        n_targets: Length of the labels.

    Returns:
        Shape (n_examples, n_targets, n_vocabulary).
    """
    options: dict[str, Any] = {"use_cache": False}
    if not model.config.is_encoder_decoder and "logits_to_keep" in _forward_parameters(model):
        options["logits_to_keep"] = n_targets
    output = torch.func.functional_call(model, dict(params), kwargs={**inputs, **options})
    return output.logits[:, -n_targets:]


def _forward_parameters(model: Any) -> Mapping[str, Any]:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(inner.forward).parameters


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode (no dropout) with eager attention, and back as it was.

    Gradient checkpointing, which neither `vmap` nor `torch.func.grad` can pass, is inactive in
    eval mode; the hooks that it leaves on the embeddings are taken off meanwhile.
    """
    modes = {module: module.training for module in model.modules()}
    configs = {
        id(module.config): module.config
        for module in model.modules()
        if hasattr(getattr(module, "config", None), "_attn_implementation")
    }
    attention = {key: config._attn_implementation for key, config in configs.items()}
    hooked = [module for module in model.modules() if getattr(module, "_require_grads_hooks", None)]
    model.eval()
    for config in configs.values():
        config._attn_implementation = "eager"
    for module in hooked:
        module.disable_input_require_grads()
    try:
        yield
    finally:
        for module in hooked:
            module.enable_input_require_grads()
        for key, config in configs.items():
            config._attn_implementation = attention[key]
        for module, training in modes.items():
            module.training = training
