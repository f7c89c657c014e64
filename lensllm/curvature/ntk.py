"""The empirical neural tangent kernel of a pre-trained language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensllm.curvature.groups import Slice, group_limit, parameter_groups
from lensllm.curvature.parameters import select_parameters
from lensllm.curvature.probe import (
    IGNORED,
    Batch,
    check_probe,
    differentiable,
    functional_logits,
    mean_log_prob,
    model_inputs,
    take,
)
from lensllm.curvature.projection import CountSketch


@dataclass(frozen=True, eq=False)
class EmpiricalNTK:
    """An empirical NTK and what goes with it.

    Attributes:
        kernel: Θ, shape (n_examples, n_examples), symmetric, in float64.
        outputs: f(x_i), shape (n_examples,), in float64.
        n_params: Parameters that the gradients were taken over.
        relative_error: 0 where Θ is exact; otherwise the bound on the standard error of Θ_ij in
            units of √(Θ_ii Θ_jj).
        flops: 2 · parameters · tokens for each forward pass, 2 · (parameters + those of the subset)
            · tokens for each backward pass, n² · P for the products.
        n_passes: Passes over the probe set that the memory bound asked for.
    """

    kernel: np.ndarray
    outputs: np.ndarray
    n_params: int
    relative_error: float
    flops: float
    n_passes: int


def empirical_ntk(
    model: Any,
    batch: Batch,
    parameters: Sequence[str] | None = None,
    *,
    sketch: CountSketch | None = None,
    memory_bytes: float = 2**31,
    chunk_size: int = 16,
) -> EmpiricalNTK:
    r"""Empirical NTK Θ_ij = ⟨∇_θ f(x_i), ∇_θ f(x_j)⟩ at the model's present parameters.

    f is the mean log probability of an example's target tokens (`mean_log_prob`).

    Exact by default: the gradients of all examples are held for as many parameters at a time as
    `memory_bytes` allows, and Θ is the sum over these groups. Peak memory is

        model + activations of c examples + s · max((n + 2c) · P_g, c' · W)

    for n examples, c = `chunk_size`, groups of P_g parameters, the largest matrix W where it has to
    be cut (c' = 1 example there) and s bytes per number; the last term is kept below `memory_bytes`
    (or at W · s where that is more) by ⌈n · P · s / memory_bytes⌉ passes, roughly. With a `sketch`
    nothing but n · p numbers is held, one pass suffices whenever 2c · P fits, and Θ is an unbiased
    estimate (see `CountSketch`).

    `lensllm.curvature.groups.ntk_memory` says what that is for a model before it is run. A Llama of
    1.2 · 10⁹ parameters in float32 with n = 256, c = 1 and `memory_bytes` = 16 · 2³⁰ stays below
    24 GiB by it: exact in 129 passes, sketched in one.

    Args:
        model: A causal or encoder-decoder model of `transformers`; left as it was.
        batch: Probe examples, see `check_probe`.
        parameters: Names of the parameters, see `select_parameters`; all by default.
        sketch: Projection of the gradients; `None` for the exact kernel.
        memory_bytes: Bound on the memory of gradients.
        chunk_size: Examples c that are differentiated together.

    Returns:
        The kernel.

    Raises:
        ValueError: The batch is unusable, a parameter is unknown, a bound is not positive, or a
            gradient is not finite.
    """
    names = select_parameters(model) if parameters is None else tuple(parameters)
    own = dict(model.named_parameters())
    unknown = [name for name in names if name not in own]
    if unknown or not names:
        raise ValueError(f"Expected names of parameters of the model, got {unknown[:1] or 'none'}")
    if chunk_size <= 0 or not memory_bytes > 0:
        raise ValueError(
            f"Expected `chunk_size` > 0 and `memory_bytes` > 0, got {chunk_size}, {memory_bytes:g}"
        )
    device = own[names[0]].device
    data = {name: value.to(device) for name, value in check_probe(batch).items()}
    n = len(data["labels"])
    size = min(chunk_size, n)
    limit = group_limit(own, names, (0 if sketch else n) + 2 * size, memory_bytes)
    groups = list(parameter_groups({name: own[name] for name in names}, limit))
    probe = _Probe(model, own, data, size)
    with differentiable(model), torch.no_grad():
        kernel, outputs = _sketched(probe, groups, sketch) if sketch else _exact(probe, groups)
    if not bool(torch.isfinite(kernel).all()):
        raise ValueError(
            "Expected finite gradients, got a kernel with values that are not: check the weights, "
            "or load the model in float32"
        )
    n_params = sum(own[name].numel() for name in names)
    products = float(n) ** 2 * (sketch.n_dims if sketch else n_params)
    return EmpiricalNTK(
        kernel=kernel.cpu().numpy(),
        outputs=outputs.cpu().numpy(),
        n_params=n_params,
        relative_error=sketch.relative_error if sketch else 0.0,
        flops=probe.n_tokens * (4.0 * probe.n_params * len(groups) + 2.0 * n_params) + products,
        n_passes=len(groups),
    )


def gram(rows: Tensor, block: int = 64) -> Tensor:
    """R Rᵀ in float64, exactly symmetric; computes one triangle, blockwise.

    Args:
        rows: R, shape (n, m).
        block: Rows of a block.

    Returns:
        Shape (n, n).
    """
    n = len(rows)
    product = torch.zeros(n, n, dtype=torch.float64, device=rows.device)
    for start in range(0, n, block):
        stop = min(start + block, n)
        strip = (rows[start:stop] @ rows[:stop].T).double()
        product[start:stop, :stop] = strip
    lower = product.tril()
    return lower + lower.tril(-1).T


@dataclass(frozen=True, eq=False)
class _Probe:
    """A model and its probe examples, cut into chunks of similar length.

    Attributes:
        model: The model, to be used inside `differentiable`.
        own: Its parameters by name.
        data: The checked batch.
        chunk_size: Examples that are differentiated together.
    """

    model: Any
    own: Mapping[str, Tensor]
    data: Mapping[str, Tensor]
    chunk_size: int

    @property
    def n_params(self) -> int:
        """Parameters of the whole model."""
        return sum(value.numel() for value in self.own.values())

    @property
    def n_tokens(self) -> int:
        """Real tokens that one pass reads."""
        tokens = int(self.data["attention_mask"].sum())
        if self.model.config.is_encoder_decoder:
            tokens += int((self.data["labels"] != IGNORED).sum())
        return tokens

    def gradients(self, group: Sequence[Slice]) -> Iterator[tuple[Tensor, list[Tensor], Tensor]]:
        """Chunk by chunk: rows, gradients by slice, each (n_rows, size), and f of those rows."""
        order = torch.argsort(self.data["attention_mask"].sum(dim=1), stable=True)
        whole = all(piece.whole for piece in group)
        for rows in order.split(self.chunk_size if whole else 1):
            chunk = take(
                self.data, rows, is_encoder_decoder=bool(self.model.config.is_encoder_decoder)
            )
            yield rows, *self.differentiate(group, chunk)

    def differentiate(self, group: Sequence[Slice], chunk: Batch) -> tuple[list[Tensor], Tensor]:
        """Per-example gradients by slice and f of one chunk."""
        inputs = model_inputs(self.model, chunk, next(iter(self.own.values())).dtype)
        n_targets = chunk["labels"].shape[1]
        values = {f"{piece.name}:{piece.start}": piece.of(self.own) for piece in group}

        def evaluate(
            parts: dict[str, Tensor], example: dict[str, Tensor], labels: Tensor
        ) -> Tensor:
            params = {
                piece.name: piece.put(self.own, parts[f"{piece.name}:{piece.start}"])
                for piece in group
            }
            single = {name: value[None] for name, value in example.items()}
            logits = functional_logits(self.model, params, single, n_targets)
            return mean_log_prob(logits, labels[None])[0]

        both = torch.func.vmap(torch.func.grad_and_value(evaluate), in_dims=(None, 0, 0))
        gradients, outputs = both(values, inputs, chunk["labels"])
        return [gradients[key].flatten(1) for key in values], outputs


def _exact(probe: _Probe, groups: Sequence[Sequence[Slice]]) -> tuple[Tensor, Tensor]:
    """Θ as the sum of the groups' Gram matrices, and f."""
    first = next(iter(probe.own.values()))
    n = len(probe.data["labels"])
    kernel = torch.zeros(n, n, dtype=torch.float64, device=first.device)
    outputs = torch.zeros(n, dtype=torch.float64, device=first.device)
    for group in groups:
        n_columns = sum(piece.size for piece in group)
        held = torch.empty(n, n_columns, dtype=_working_dtype(first), device=first.device)
        for rows, gradients, values in probe.gradients(group):
            outputs[rows] = values.double()
            column = 0
            for gradient in gradients:
                held[rows, column : column + gradient.shape[1]] = gradient.to(held.dtype)
                column += gradient.shape[1]
        kernel += gram(held)
        del held
    return kernel, outputs


def _sketched(
    probe: _Probe, groups: Sequence[Sequence[Slice]], sketch: CountSketch
) -> tuple[Tensor, Tensor]:
    """Estimate of Θ from projected gradients, and f."""
    first = next(iter(probe.own.values()))
    n, dtype = len(probe.data["labels"]), _working_dtype(first)
    projected = torch.zeros(n, sketch.n_dims, dtype=dtype, device=first.device)
    outputs = torch.zeros(n, dtype=torch.float64, device=first.device)
    part = 0
    for group in groups:
        for rows, gradients, values in probe.gradients(group):
            outputs[rows] = values.double()
            sums = torch.zeros(len(rows), sketch.n_dims, dtype=dtype, device=first.device)
            for offset, gradient in enumerate(gradients):
                sketch.add(sums, gradient, part + offset)
            projected[rows] += sums
        part += len(group)
    return gram(projected), outputs


def _working_dtype(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32
