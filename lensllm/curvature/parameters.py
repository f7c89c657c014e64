"""Selection of parameters: all of them, the last blocks, LoRA's, or layer by layer."""

from __future__ import annotations

import re
from typing import Any, Literal

from torch import nn

Subset = Literal["all", "last_blocks", "lora"]


def block_lists(model: nn.Module) -> list[str]:
    """Names of the lists of transformer blocks: one for a decoder, one each for two stacks.

    Example:
        >>> block_lists(nn.Sequential(nn.ModuleList([nn.Linear(2, 2)])))
        ['0']
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) and not inner:
            found.append(name)
    return found


def layers(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Names of all parameters, layer by layer: the layers i = 1..l of the Hessian bound.

    A layer is one transformer block; what stands before the first block (embeddings) and after the
    last one (final norm, an untied head) form a layer each.

    Args:
        model: Any model with at least one list of blocks.

    Returns:
        Parameter names by layer, each parameter (tied ones once) in exactly one layer.

    Raises:
        ValueError: The model has no list of blocks.
    """
    lists = block_lists(model)
    if not lists:
        raise ValueError(
            f"Expected a model with a ModuleList of blocks, found none in {type(model).__name__}"
        )
    block = re.compile("(" + "|".join(re.escape(name) for name in lists) + r")\.(\d+)\.")
    groups: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        match = block.match(name)
        if match:
            layer = f"{match[1]}.{match[2]}"
        else:
            layer = "embeddings" if _is_embedding(name) else "head"
        groups.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in groups.items()}


def _is_embedding(name: str) -> bool:
    return re.search(r"embed|wte|wpe|shared", name) is not None and "embed_out" not in name


def select_parameters(model: Any, subset: Subset = "all", n_blocks: int = 1) -> tuple[str, ...]:
    """Names of the parameters that the NTK is taken over.

    Args:
        model: The model.
        subset: `all`; `last_blocks`, the last `n_blocks` of each stack of blocks; `lora`, the
            adapters that `peft` put in.
        n_blocks: Number k of last blocks.

    Returns:
        Names as `model.named_parameters()` has them, in its order.

    Raises:
        ValueError: The subset is unknown or empty, or there are fewer blocks than wanted.
    """
    names = [name for name, _ in model.named_parameters()]
    if subset == "all":
        return tuple(names)
    if subset == "lora":
        chosen = tuple(name for name in names if "lora_" in name)
        if not chosen:
            raise ValueError(
                "Expected a model with LoRA parameters for subset 'lora', found none: wrap it with "
                "peft.get_peft_model first"
            )
        return chosen
    if subset != "last_blocks":
        raise ValueError(f"Expected `subset` to be all, last_blocks or lora, got {subset!r}")
    modules = dict(model.named_modules())
    prefixes: list[str] = []
    for stack in block_lists(model):
        depth = len(modules[stack])
        if not 1 <= n_blocks <= depth:
            raise ValueError(
                f"Expected `n_blocks` between 1 and {depth}, the blocks of {stack}, got {n_blocks}"
            )
        prefixes += [f"{stack}.{i}." for i in range(depth - n_blocks, depth)]
    return tuple(name for name in names if name.startswith(tuple(prefixes)))
