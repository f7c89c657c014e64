"""A model's shape by its config, for nested, mixture-of-experts and hybrid models too."""

from __future__ import annotations

import copy
from typing import Any

# Names that transformers' configs have for the number of layers.
DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
# Steps between layers with experts of encoder-decoders (Switch); at 0 there are none.
_ROUTED = ("encoder_sparse_step", "decoder_sparse_step")
# Shares of layers that are left out at random in training.
_DROPPED = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
# Names for the number of experts that there are, and for those that a token is sent to.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k")
# Kinds of layers that keep the same activations, but for their masks.
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class UnevenLayersError(ValueError):
    """A model's layers are of different kinds, so that two of them say nothing of the others."""


def depth(config: Any) -> int:
    """Number of layers of the text part; the larger one of encoder and decoder."""
    text = config.get_text_config()
    return max(int(getattr(text, name, 0) or 0) for name in DEPTHS)


def hidden_size(config: Any) -> int:
    """Width of the text part."""
    text = config.get_text_config()
    return int(getattr(text, "hidden_size", None) or text.d_model)


def shrunk(config: Any, n_layers: int) -> Any:
    """A copy with `n_layers` layers per stack; experts are removed from encoder-decoders.

    Raises:
        UnevenLayersError: The layers are of different kinds.
    """
    config = copy.deepcopy(config)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    if not set(kinds) <= _ATTENTION:
        raise UnevenLayersError(f"layers of the kinds {', '.join(sorted(set(kinds)))}")
    if kinds:
        text.layer_types = text.layer_types[:n_layers]
    for name in DEPTHS:
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, n_layers)
    for name in _DROPPED:  # which layers are left out is not known in advance
        if hasattr(text, name):
            setattr(text, name, 0.0)
    for name in _ROUTED if config.is_encoder_decoder else ():
        if hasattr(text, name):
            setattr(text, name, 0)
    return config


def used_share(config: Any) -> float:
    """Share of the experts that one token is routed to; 1 where there are none or it is unknown."""
    text = config.get_text_config()
    there = next((getattr(text, name) for name in _EXPERTS if getattr(text, name, None)), 1)
    used = next((getattr(text, name) for name in _USED if getattr(text, name, None)), None)
    if used is None:  # Switch sends each token to one
        used = 1 if text.model_type == "switch_transformers" else there
    return min(1.0, used / there)


def used_parameters(model: Any) -> float:
    """Parameters active for one token: its share of the experts, and all others."""
    share = used_share(model.config)
    return sum(
        parameter.numel() * (share if ".experts." in name else 1.0)
        for name, parameter in model.named_parameters()
    )
