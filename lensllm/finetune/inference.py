"""What it takes to run a candidate once it is tuned: memory, time, and a licence."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import hf_hub_download
from transformers import GenerationConfig

from lensllm.core.limits import UNKNOWN
from lensllm.finetune.adapters import FULL
from lensllm.finetune.encoding import Example
from lensllm.finetune.models import ModelSource
from lensllm.zoo import zoo_models

logger = logging.getLogger(__name__)

# Test pairs whose generation is timed.
N_TIMED = 5
_CARD_BYTES = 100_000
_DEPTHS = ("num_decoder_layers", "decoder_layers", "num_hidden_layers")
_HEADS = ("num_key_value_heads", "num_kv_heads", "decoder_attention_heads", "num_attention_heads")


def inference_memory_gb(source: ModelSource, longest: tuple[int, int]) -> float:
    r"""Memory of inference for one example at a time, from the config alone.

    With P parameters of b bytes each (adapters merged; 4.5 bits with QLoRA), l (decoder) layers, h
    key-value heads of width d, and the longest input and target of n and m tokens,

        P b + 2 l h d (n + m) b'

    where b' are the bytes of a number in `dtype`: the weights, and the keys and values of all
    tokens. Activations, the framework and fragmentation come on top.

    Args:
        source: The candidate.
        longest: Tokens of the longest input and of the longest target.

    Returns:
        Gigabytes (10⁹ bytes).
    """
    method = source.finetune or FULL
    width = torch.finfo(getattr(torch, source.dtype)).bits // 8
    per_weight = 4.5 / 8 if method.method == "qlora" else width
    n_params = source.n_params - (0 if method.is_full else source.n_trainable)
    cached = 2 * width * _numbers_per_token(source.config) * sum(longest)
    return (n_params * per_weight + cached) / 1e9


def _numbers_per_token(config: Any) -> int:
    """Numbers in the keys of one token, in all layers; 0 for models without attention."""
    text = config.get_text_config()
    depth, heads = _first(text, _DEPTHS), _first(text, _HEADS)
    own = _first(text, ("decoder_attention_heads", "num_attention_heads"))
    hidden = _first(text, ("hidden_size", "d_model"))
    head_width = _first(text, ("head_dim", "d_kv")) or (hidden // own if own else 0)
    return depth * heads * head_width


def _first(config: Any, names: Sequence[str]) -> int:
    """The first of some attributes that a config has; the largest if it differs by layer."""
    found = next((n for name in names if (n := getattr(config, name, None))), 0)
    return max(found) if isinstance(found, list | tuple) else int(found)


def measure_latency(
    source: ModelSource, examples: Sequence[Example], pad_token_id: int | None, device: str
) -> float:
    """Median time of generating one target, in milliseconds, measured on this machine.

    Each of the first `N_TIMED` test pairs is generated greedily at batch size 1: as many tokens as
    its target has, by the pre-trained weights (with adapters merged, tuning changes no time). A
    generation before them is not counted.

    Args:
        source: The candidate.
        examples: Test pairs, at least one.
        pad_token_id: Token id of padding.
        device: `cpu` or `cuda`.
    """
    model: Any = replace(source, finetune=None).load_model()
    model = model.eval().to(device)
    timed = [
        _generate(model, example, source, pad_token_id)
        for example in (*examples[:1], *examples[:N_TIMED])
    ]
    return 1000.0 * statistics.median(timed[1:])


def _generate(model: Any, example: Example, source: ModelSource, pad_token_id: int | None) -> float:
    """Seconds of one greedy generation."""
    settings = GenerationConfig(
        max_new_tokens=len(example.target),
        do_sample=False,
        pad_token_id=source.padding(pad_token_id),
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    prompt = torch.tensor([list(example.source)], device=model.device)
    start = time.perf_counter()
    with torch.no_grad():
        model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def licences_of(source: ModelSource) -> list[str]:
    """Licences in the front matter of the model card, in small letters; `unknown` for none.

    Read from README.md in the model's folder, or in the repository on the Hub that the weights
    come from (or the local cache of it). An adapter needs that of its base as well.

    Returns:
        At least one.
    """
    if source.base is not None:
        return [*_licences(Path(source.source) / "README.md"), *licences_of(source.base)]
    if source.source in zoo_models():
        return ["mit"]  # the project's own
    if source.commit is None:
        return _licences(Path(source.source) / "README.md")
    try:
        return _licences(Path(hf_hub_download(source.source, "README.md", revision=source.commit)))
    except Exception as error:
        logger.warning("The licence of %s is not known: %s", source.source, type(error).__name__)
        return [UNKNOWN]


def _licences(card: Path) -> list[str]:
    """Licences of one model card."""
    try:
        text = card.read_text(encoding="utf-8")[:_CARD_BYTES]
        _, matter, _ = text.split("---", 2) if text.startswith("---") else ("", "", "")
        found = (yaml.safe_load(matter) or {}).get("license")
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        found = None
    names = found if isinstance(found, list) else [found]
    return [str(name).strip().lower() for name in names if name] or [UNKNOWN]
