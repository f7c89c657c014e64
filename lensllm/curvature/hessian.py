"""Hessian-vector products layer by layer, and the Hessian terms of the bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensllm.curvature.lanczos import QuadraticForm, positive_quadratic_form
from lensllm.curvature.parameters import layers
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


def target_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per target token of a whole batch, in nats, in float32 or better."""
    n_targets = (labels != IGNORED).sum(dim=1)
    return -(mean_log_prob(logits, labels) * n_targets).sum() / n_targets.sum()


class LossHessian:
    r"""Hessian of a batch's test loss by each layer's own parameters, as a product with vectors.

    The gradient is computed once with its graph (`create_graph`), and each product
    H_i v = ∇_{w_i} ⟨∇_{w_i} L, v⟩ is one backward pass through it. Double backward is correct for
    layer norm; differentiating a *vectorised* layer-norm gradient is not.

    Args:
        model: A causal or encoder-decoder model of `transformers`; left as it was. Load it in
            float32 or float64.
        batch: Examples, see `lensllm.curvature.probe.check_probe`.
        groups: Parameter names by layer; `lensllm.curvature.parameters.layers` by default.

    Raises:
        ValueError: The batch is unusable.
    """

    def __init__(
        self, model: Any, batch: Batch, groups: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        data = check_probe(batch)
        self.groups = dict(layers(model) if groups is None else groups)
        own = dict(model.named_parameters())
        params = {name: value.detach().requires_grad_() for name, value in own.items()}
        device = next(iter(params.values())).device
        data = {name: value.to(device) for name, value in data.items()}
        inputs = model_inputs(model, data, next(iter(params.values())).dtype)
        with differentiable(model), torch.enable_grad():
            logits = functional_logits(model, params, inputs, data["labels"].shape[1])
            loss = target_loss(logits, data["labels"])
            names = list(dict.fromkeys(name for group in self.groups.values() for name in group))
            gradients = torch.autograd.grad(
                loss, [params[name] for name in names], create_graph=True, materialize_grads=True
            )
        self.loss = float(loss.detach())
        self._params = params
        self._gradients = dict(zip(names, gradients, strict=True))

    def product(self, layer: str, vector: Tensor) -> Tensor:
        """H_i v, flattened.

        Args:
            layer: Name of the layer i.
            vector: v, flattened in the order of the layer's parameters, shape (n_params,).
        """
        names = self.groups[layer]
        params = [self._params[name] for name in names]
        parts = vector.to(params[0].dtype).split([param.numel() for param in params])
        rows = [
            (self._gradients[n], p.view_as(self._params[n]))
            for n, p in zip(names, parts, strict=True)
        ]
        rows = [(gradient, part) for gradient, part in rows if gradient.requires_grad]
        if not rows:
            return torch.zeros_like(vector)
        product = torch.autograd.grad(
            [gradient for gradient, _ in rows],
            params,
            [part for _, part in rows],
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([part.flatten() for part in product])


def displacements(
    fine_tuned: torch.nn.Module,
    pretrained: torch.nn.Module,
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Tensor]:
    """v_i = ŵ_i − w_i⁽⁰⁾ layer by layer, flattened.

    Args:
        fine_tuned: The model with ŵ.
        pretrained: The same model with w⁽⁰⁾.
        groups: See `LossHessian`.

    Raises:
        ValueError: The models do not have the same parameters.
    """
    new, old = dict(fine_tuned.named_parameters()), dict(pretrained.named_parameters())
    different = [name for name in new.keys() | old.keys() if name not in new or name not in old]
    different += [name for name in new.keys() & old.keys() if new[name].shape != old[name].shape]
    if different:
        raise ValueError(
            f"Expected two models with the same parameters, got one of another shape: "
            f"{sorted(different)[0]}"
        )
    groups = layers(fine_tuned) if groups is None else groups
    return {
        layer: torch.cat([(new[n].detach() - old[n].detach()).flatten() for n in names])
        for layer, names in groups.items()
    }


@dataclass(frozen=True, eq=False)
class HessianTerms:
    """v_iᵀ H_i⁺ v_i of every layer and every example of a sample.

    Attributes:
        layers: Names of the layers.
        positive: v_iᵀ H_i⁺ v_i, shape (n_layers, n_examples).
        total: v_iᵀ H_i v_i, same shape; below `positive` by the negative curvature along v_i.
        distance: ‖v_i‖, shape (n_layers,).
        losses: Loss of each example per target token, shape (n_examples,).
        change: Change by the last Lanczos step, relative, same shape as `positive`.
        n_products: Hessian-vector products in all.
    """

    layers: tuple[str, ...]
    positive: np.ndarray
    total: np.ndarray
    distance: np.ndarray
    losses: np.ndarray
    change: np.ndarray
    n_products: int

    @property
    def maximum(self) -> np.ndarray:
        """h_i: largest over the sample, shape (n_layers,).

        A fresh example exceeds the largest of m with probability 1 / (m + 1).
        """
        return self.positive.max(axis=1)

    @property
    def mean(self) -> np.ndarray:
        """Mean over the sample, shape (n_layers,)."""
        return self.positive.mean(axis=1)

    @property
    def mean_error(self) -> np.ndarray:
        """Standard error of the mean, shape (n_layers,); `nan` for one example."""
        n = self.positive.shape[1]
        if n < 2:
            return np.full(len(self.layers), np.nan)
        return self.positive.std(axis=1, ddof=1) / np.sqrt(n)

    @property
    def maximum_error(self) -> np.ndarray:
        """Jackknife standard error of the maximum, shape (n_layers,); `nan` for one example."""
        n = self.positive.shape[1]
        if n < 2:
            return np.full(len(self.layers), np.nan)
        ordered = np.sort(self.positive, axis=1)
        return (ordered[:, -1] - ordered[:, -2]) * (n - 1) / n


def hessian_terms(
    model: Any,
    directions: Mapping[str, Tensor],
    batch: Batch,
    *,
    groups: Mapping[str, tuple[str, ...]] | None = None,
    n_steps: int = 30,
    tolerance: float = 1e-3,
    progress: Callable[[int, int], None] | None = None,
) -> HessianTerms:
    """v_iᵀ H_i⁺ v_i for each layer and example (LensLLM's Theorem 2, after Ju et al., ICML 2022).

    H_i is the Hessian of one example's loss by layer i's parameters at the fine-tuned weights.

    Args:
        model: The fine-tuned model.
        directions: v_i by layer, see `displacements`.
        batch: Sample of test examples, see `lensllm.curvature.probe.check_probe`.
        groups: See `LossHessian`.
        n_steps: Lanczos steps at most, see `positive_quadratic_form`.
        tolerance: See `positive_quadratic_form`.
        progress: Called with (examples done, examples in all).

    Returns:
        The terms with their sampling errors.

    Raises:
        ValueError: The batch is unusable.
    """
    data = check_probe(batch)
    names = tuple(directions)
    found: list[list[QuadraticForm]] = []
    losses = []
    for i in range(len(data["labels"])):
        example = take(
            data, torch.tensor([i]), is_encoder_decoder=bool(model.config.is_encoder_decoder)
        )
        hessian = LossHessian(model, example, groups)
        losses.append(hessian.loss)
        found.append(
            [
                positive_quadratic_form(
                    lambda v, layer=layer, hessian=hessian: hessian.product(layer, v),  # type: ignore[misc]
                    directions[layer],
                    n_steps,
                    tolerance,
                )
                for layer in names
            ]
        )
        if progress is not None:
            progress(i + 1, len(data["labels"]))

    def table(name: str) -> np.ndarray:
        return np.array([[getattr(form, name) for form in row] for row in found]).T

    return HessianTerms(
        layers=names,
        positive=table("positive"),
        total=table("total"),
        distance=np.array([float(directions[name].double().norm()) for name in names]),
        losses=np.array(losses),
        change=table("change"),
        n_products=int(table("n_products").sum()),
    )
