"""Parameters in groups whose gradients stay below a memory bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensllm.curvature.parameters import select_parameters
from lensllm.curvature.projection import CountSketch


@dataclass(frozen=True)
class Slice:
    """Rows `start:stop` of a parameter, flattened to `size` coordinates."""

    name: str
    start: int
    stop: int
    size: int
    whole: bool

    def of(self, own: Mapping[str, Tensor]) -> Tensor:
        """The model's values of these rows."""
        value = own[self.name].detach()
        return value if self.whole else value[self.start : self.stop]

    def put(self, own: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """The whole parameter with other values in these rows."""
        if self.whole:
            return rows
        value = own[self.name].detach()
        return torch.cat([value[: self.start], rows, value[self.stop :]])


def group_limit(
    own: Mapping[str, Tensor], names: Sequence[str], n_rows: int, memory_bytes: float
) -> int:
    """Coordinates of a group of which `n_rows` gradients stay below the bound."""
    width = max(own[name].element_size() for name in names)
    return max(1, int(memory_bytes / (width * n_rows)))


def parameter_groups(parameters: dict[str, Tensor], limit: int) -> Iterator[list[Slice]]:
    """Cut parameters into groups of at most `limit` coordinates (at least one row each)."""
    group: list[Slice] = []
    room = limit
    for name, value in parameters.items():
        n_rows = len(value) if value.ndim else 1
        row_size = value.numel() // n_rows
        if value.numel() <= limit:
            if value.numel() > room:
                yield group
                group, room = [], limit
            group.append(Slice(name, 0, n_rows, value.numel(), True))
            room -= value.numel()
            continue
        if group:
            yield group
            group, room = [], limit
        n_parts = math.ceil(n_rows / max(1, limit // row_size))
        for rows in np.array_split(np.arange(n_rows), n_parts):
            start, stop = int(rows[0]), int(rows[-1]) + 1
            yield [Slice(name, start, stop, (stop - start) * row_size, False)]
    if group:
        yield group


@dataclass(frozen=True)
class NTKMemory:
    """What `empirical_ntk` will hold, beside the activations of a chunk.

    Attributes:
        model_bytes: The parameters.
        gradient_bytes: Gradients at most at a time, s · max((n + 2c) · P_g, (n + 2) · P_g + 2 W)
            with W only where a matrix is cut; n = 0 there for a projection, which holds n · p
            numbers besides.
        n_passes: Passes over the probe examples.
    """

    model_bytes: int
    gradient_bytes: int
    n_passes: int


def ntk_memory(
    model: Any,
    n_examples: int,
    parameters: Sequence[str] | None = None,
    *,
    sketch: CountSketch | None = None,
    memory_bytes: float = 2**31,
    chunk_size: int = 16,
) -> NTKMemory:
    """The memory of `empirical_ntk` from shapes alone; the model may be on the meta device.

    Args:
        model: See `empirical_ntk`.
        n_examples: Probe examples n.
        parameters: See `empirical_ntk`.
        sketch: See `empirical_ntk`.
        memory_bytes: See `empirical_ntk`.
        chunk_size: See `empirical_ntk`.
    """
    own = dict(model.named_parameters())
    names = select_parameters(model) if parameters is None else tuple(parameters)
    size, held = min(chunk_size, n_examples), 0 if sketch else n_examples
    groups = list(
        parameter_groups(
            {name: own[name] for name in names},
            group_limit(own, names, held + 2 * size, memory_bytes),
        )
    )
    width = max(own[name].element_size() for name in names)
    most = 0
    for group in groups:
        columns = sum(piece.size for piece in group)
        cut = [own[piece.name].numel() for piece in group if not piece.whole]
        most = max(most, (held + 2) * columns + 2 * cut[0] if cut else (held + 2 * size) * columns)
    return NTKMemory(
        sum(value.numel() * value.element_size() for value in own.values()),
        width * (most + (n_examples * sketch.n_dims if sketch else 0)),
        len(groups),
    )
