"""A grid that follows the ridge of a density over one or two shape coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensllm.laws.base import Array
from lensllm.laws.linearised import TINY, Target

_REACH = 4.0  # prior widths that the first grid covers
_FIRST_GRID, _GRID, _N_REFINEMENTS = (48, 64), (24, 24), 3
_DROP = 11.0  # log density below its peak at which a grid ends


@dataclass(frozen=True)
class Layout:
    """Slices of the outer coordinate, each with its own range of the inner one (β).

    Attributes:
        start: Low end of the outer range, (n_curves,).
        stop: High end.
        low: Low end of the inner range on each slice, (n_curves, n_slices).
        high: High end.
    """

    start: Array
    stop: Array
    low: Array
    high: Array

    def outer(self) -> Array:
        """Outer coordinate of the slices, at the middle of their cells."""
        n = self.low.shape[1]
        return self.start[:, None] + (self.stop - self.start)[:, None] * _middles(n)

    def ends_at(self, outer: Array) -> tuple[Array, Array]:
        """Inner range at any outer coordinate, linear between slices."""
        n = self.low.shape[1]
        span = np.maximum(self.stop - self.start, TINY)[:, None]
        place = np.clip((outer - self.start[:, None]) / span * n - 0.5, 0.0, n - 1.0)
        left = np.minimum(place.astype(int), max(n - 2, 0))
        right = np.minimum(left + 1, n - 1)
        share = place - left
        low = _at(self.low, left) * (1 - share) + _at(self.low, right) * share
        high = _at(self.high, left) * (1 - share) + _at(self.high, right) * share
        return low, high


def _middles(n: int) -> Array:
    return (np.arange(n) + 0.5) / n


def _at(values: Array, columns: Array) -> Array:
    return np.take_along_axis(values, columns, axis=1)


def _points(layout: Layout, n_inner: int, n_free: int) -> Array:
    """Grid points x, (n_curves, n_slices · n_inner, n_free); the inner coordinate comes first."""
    inner = layout.low[..., None] + (layout.high - layout.low)[..., None] * _middles(n_inner)
    outer = np.broadcast_to(layout.outer()[..., None], inner.shape)
    both = np.stack([inner, outer], axis=-1)[..., :n_free]
    return both.reshape(len(inner), -1, n_free)


def lay_out(target: Target) -> tuple[Layout, Array]:
    """Find the layout; and the log density on its last grid, (n_curves, n_slices, n_inner)."""
    n_curves, n_free = len(target.laws), len(target.centre)
    n_slices, n_inner = _FIRST_GRID if n_free == 2 else (1, _FIRST_GRID[1])
    edge = np.full(n_curves, _REACH)
    ends = np.full((n_curves, n_slices), _REACH)
    layout = Layout(-edge, edge, -ends, ends)
    log_density = target.linear(_points(layout, n_inner, n_free)).log_density
    log_density = log_density.reshape(n_curves, n_slices, n_inner)
    for _ in range(_N_REFINEMENTS):
        layout = _refine(layout, log_density, _GRID[0] if n_free == 2 else 1)
        log_density = target.linear(_points(layout, _GRID[1], n_free)).log_density
        log_density = log_density.reshape(n_curves, -1, _GRID[1])
    return layout, log_density


def _refine(layout: Layout, log_density: Array, n_slices: int) -> Layout:
    """Shrink the outer range and each slice's inner range to where the density is."""
    n_old, n_inner = log_density.shape[1:]
    peak = log_density.max(axis=2)
    first, last = _ends_of(log_density > peak[..., None] - _DROP)
    step = (layout.high - layout.low) / n_inner
    low = layout.low + (first - 0.5) * step
    high = layout.low + (last + 1.5) * step
    marginal = peak + np.log(
        np.exp(log_density - peak[..., None]).sum(axis=2) * (layout.high - layout.low)
    )
    begin, end = _ends_of(marginal > marginal.max(axis=1, keepdims=True) - _DROP)
    width = (layout.stop - layout.start) / n_old
    start = np.maximum(layout.start + (begin - 0.5) * width, -_REACH)
    stop = np.minimum(layout.start + (end + 1.5) * width, _REACH)
    if n_old == 1:
        return Layout(layout.start, layout.stop, low, high)
    # a new slice takes the hull of its old neighbours' ranges: the ridge lies between them
    outer = start[:, None] + (stop - start)[:, None] * _middles(n_slices)
    place = (outer - layout.start[:, None]) / width[:, None] - 0.5
    left = np.clip(np.floor(place), 0, n_old - 1).astype(int)
    right = np.clip(left + 1, 0, n_old - 1)
    return Layout(
        start,
        stop,
        np.minimum(_at(low, left), _at(low, right)),
        np.maximum(_at(high, left), _at(high, right)),
    )


def _ends_of(mask: Array) -> tuple[Array, Array]:
    """First and last true place along the last axis."""
    return mask.argmax(axis=-1), mask.shape[-1] - 1 - mask[..., ::-1].argmax(axis=-1)
