"""How much data a candidate needs, and what twice the data would bring, from draws of its curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

# Curves are followed up to this many times D_full: three doublings.
MAX_FACTOR = 8
_TAILS = (0.5, 0.1, 0.9)


@dataclass(frozen=True)
class Range:
    """A number with its 80 % interval; `inf` stands for more than `MAX_FACTOR` times D_full.

    Attributes:
        middle: Median; of a loss, and of a difference of losses, that of geometric means, as a
            predicted loss is one.
        lower80: Lower end.
        upper80: Upper end.
    """

    middle: float
    lower80: float
    upper80: float

    @classmethod
    def of(cls, draws: np.ndarray) -> Range:
        """The quantiles of draws, some of which may be infinite."""
        return cls(*(float(x) for x in np.quantile(draws, _TAILS, method="nearest")))


@dataclass(frozen=True)
class DataNeeds:
    """What more data, or less, would mean for a candidate.

    Attributes:
        model: Name of the candidate.
        n_samples_full: Size D_full.
        twice_loss: Test loss at 2 · D_full, as it would be measured.
        twice_gain: By how much that is below the loss that would be measured at D_full.
        target_loss: A test loss that is wanted; `nan` for none.
        n_for_target: Size D at which that loss is reached; `None` without a target.
        standard_error: Standard error of the test loss at D_full over test examples; `nan` if
            unknown.
        n_enough: Size D from which on each doubling brings less than that; `None` if it is unknown.
    """

    model: str
    n_samples_full: int
    twice_loss: Range
    twice_gain: Range
    target_loss: float = math.nan
    n_for_target: Range | None = None
    standard_error: float = math.nan
    n_enough: Range | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; numbers that are not finite become null."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DataNeeds:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {}
        for key, value in record.items():
            if isinstance(value, Mapping):
                ends = {name: math.inf if x is None else x for name, x in value.items()}
                values[key] = Range(**ends)
            elif value is not None:
                values[key] = value
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def data_sizes(smallest: int, n_samples_full: int) -> np.ndarray:
    """Sizes from about the smallest one to `MAX_FACTOR` times D_full, two per doubling.

    D_full is one of them; all are whole numbers.
    """
    below = max(0, round(2 * math.log2(n_samples_full / smallest)))
    steps = np.arange(-below, 2 * int(math.log2(MAX_FACTOR)) + 1)
    return np.unique(np.rint(n_samples_full * 2.0 ** (steps / 2)))


def data_needs_of(
    model: str,
    n_samples_full: int,
    sizes: np.ndarray,
    curves: np.ndarray,
    measured: np.ndarray,
    *,
    target_loss: float | None = None,
    standard_error: float = math.nan,
    full_loss: float = math.nan,
) -> DataNeeds:
    """Read the answers off joint draws of a candidate's curve.

    Args:
        model: Name of the candidate.
        n_samples_full: Size D_full.
        sizes: See `data_sizes`, shape (n_sizes,).
        curves: Draws of the loss without the noise of a measurement, shape (n_draws, n_sizes).
        measured: The same with that noise.
        target_loss: A test loss that is wanted.
        standard_error: See `DataNeeds`.
        full_loss: The loss at D_full if it was measured; draws at larger sizes are then taken in
            proportion to it.
    """
    here = int(np.searchsorted(sizes, n_samples_full))
    if math.isfinite(full_loss):
        curves, measured = (
            np.where(sizes < n_samples_full, part, part * full_loss / part[:, [here]])
            for part in (curves, measured)
        )
    wanted = None if target_loss is None else Range.of(_first_below(sizes, curves, target_loss))
    enough = None
    if math.isfinite(standard_error):
        gains = curves[:, :-2] - curves[:, 2:]
        enough = Range.of(_last_above(sizes, gains, standard_error))
    full, twice = measured[:, here], measured[:, here + 2]
    centre, further = (float(np.exp(np.log(draws).mean())) for draws in (full, twice))
    return DataNeeds(
        model,
        n_samples_full,
        replace(Range.of(twice), middle=further),
        replace(Range.of(full - twice), middle=centre - further),
        math.nan if target_loss is None else target_loss,
        wanted,
        standard_error,
        enough,
    )


def _first_below(sizes: np.ndarray, curves: np.ndarray, target: float) -> np.ndarray:
    """Size at which each draw first reaches a loss, on a line in log D, shape (n_draws,)."""
    reached = curves <= target
    k = np.maximum(reached.argmax(axis=1), 1)
    rows = np.arange(len(curves))
    before, after = curves[rows, k - 1], curves[rows, k]
    fall = np.where(before > after, before - after, 1.0)
    share = np.clip((before - target) / fall, 0.0, 1.0)
    at = sizes[k - 1] * (sizes[k] / sizes[k - 1]) ** share
    return np.where(reached[:, 0], sizes[0], np.where(reached.any(axis=1), at, math.inf))


def _last_above(sizes: np.ndarray, gains: np.ndarray, least: float) -> np.ndarray:
    """Size after the last one whose doubling brings at least so much, shape (n_draws,)."""
    n_before = gains.shape[1] - (gains >= least)[:, ::-1].argmax(axis=1)
    n_before = np.where((gains >= least).any(axis=1), n_before, 0)
    return np.where(n_before == gains.shape[1], math.inf, sizes[n_before])
