"""From a tidy table of curves to fits, and from fits to a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.curves import check_curves
from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.fitting import fit_laws
from lensllm.laws.noise import estimate_noise
from lensllm.laws.result import LawFit, LawFits

_BLOCK = 256


@dataclass(frozen=True)
class CurveStack:
    """Curves as arrays; the seeds of one model and data set share a row.

    Attributes:
        index: `dataset` and `model` of each row.
        n_samples: Sizes of the columns, ascending, one column per seed, shape (n_columns,).
        losses: Losses, shape (n_curves, n_columns); `nan` where there is none.
    """

    index: pd.DataFrame
    n_samples: Array
    losses: Array

    def with_losses(self, losses: Array) -> CurveStack:
        """The same curves with other losses."""
        return replace(self, losses=losses)

    def take(self, rows: Array) -> CurveStack:
        """The curves of a mask."""
        index = self.index[rows].reset_index(drop=True)
        return replace(self, index=index, losses=self.losses[rows])


def stack_curves(curves: pd.DataFrame, max_n_samples: float = np.inf) -> CurveStack:
    """Stack a tidy table of curves into arrays.

    Args:
        curves: Tidy table (see `lensllm.core.curves`).
        max_n_samples: Leave larger sizes out.

    Raises:
        ValueError: The table is not a table of curves, or no row is left of it.
    """
    table = check_curves(curves)
    table = table[table["n_samples"] <= max_n_samples]
    if table.empty:
        raise ValueError(f"Expected curves with n_samples <= {max_n_samples:g}, got none")
    wide = table.pivot(
        index=["dataset", "model"], columns=["n_samples", "seed"], values="test_loss"
    ).sort_index(axis=1)
    sizes = wide.columns.get_level_values("n_samples").to_numpy(dtype=float)
    return CurveStack(wide.index.to_frame(index=False), sizes, wide.to_numpy(dtype=float))


def fit_stack(law: ScalingLaw | Sequence[ScalingLaw], stack: CurveStack, **options: Any) -> LawFits:
    """Fit a law to stacked curves; `options` are those of `fit_laws`.

    Raises:
        ValueError: As `fit_laws`, with the curve named.
    """
    try:
        return fit_laws(law, stack.n_samples, stack.losses, **options)
    except ValueError as error:
        message = str(error)
        for i, row in enumerate(stack.index.itertuples()):
            message = message.replace(f"in curve {i}:", f"in {row.model!r} on {row.dataset!r}:")
        raise ValueError(message) from error


def fits_table(
    stack: CurveStack,
    fits: LawFits,
    *,
    predict_at: Sequence[float] = (),
    target_loss: float | None = None,
    level: float = 0.8,
) -> pd.DataFrame:
    """One row per curve: what was fitted, how well, and what follows from it.

    Args:
        stack: The curves.
        fits: Their fits.
        predict_at: Sizes D to predict at.
        target_loss: Loss for which to report the required number of samples.
        level: Level of the intervals.

    Returns:
        `dataset, model, law, objective, n_points`, the parameters, `transition_size`, each with
        `_lower` and `_upper` ends, `rmse_log, rmse, noise, seed_noise, misfit, effective_draws,
        converged, n_evaluations`, `loss_at_<D>` and `n_samples_for_target` (the posterior's median)
        with `_lower` and `_upper` ends and the best fit's value as `_fit`, and `warnings`.
    """
    # block by block, so that the posteriors of many curves are never held at once
    rows = [
        _row(fit, predict_at, target_loss, level)
        for first in range(0, len(fits), _BLOCK)
        for fit in fits.take(range(first, min(first + _BLOCK, len(fits))))
    ]
    return pd.concat([stack.index.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def _row(
    fit: LawFit, predict_at: Sequence[float], target_loss: float | None, level: float
) -> dict[str, Any]:
    """One fit as a mapping."""
    batch, i = fit.batch, fit.index
    row: dict[str, Any] = {
        "law": fit.law.name,
        "objective": batch.objective.name,
        "n_points": int(batch.n_points[i]),
    }
    row |= {**fit.named_params, "transition_size": fit.transition_size}
    warnings = fit.warnings
    if np.isfinite(fit.params).all():
        row |= _evaluated(fit, predict_at, target_loss, level)
        warnings += fit.posterior.warnings
    row |= {"converged": fit.converged, "n_evaluations": fit.n_evaluations}
    return {**row, "warnings": "; ".join(warnings)}


def _evaluated(
    fit: LawFit, predict_at: Sequence[float], target_loss: float | None, level: float
) -> dict[str, float]:
    """Columns that only a fitted curve has."""
    posterior, row = fit.posterior, {}
    for name in (*fit.law.param_names, "transition_size"):
        row[f"{name}_lower"], row[f"{name}_upper"] = posterior.param_interval(name, level)
    noise = estimate_noise(fit)
    row |= {"rmse_log": fit.rmse_log, "rmse": fit.rmse, "noise": noise.total}
    row |= {"seed_noise": noise.seed, "misfit": noise.misfit}
    row["effective_draws"] = posterior.effective_size
    for size in predict_at:
        name = f"loss_at_{size:.0f}"
        middle, low, high = posterior.quantiles(size, [0.5, 0.5 - level / 2, 0.5 + level / 2])[:, 0]
        row |= {name: middle, f"{name}_lower": low, f"{name}_upper": high}
        row[f"{name}_fit"] = float(fit.predict(size))
    if target_loss is not None:
        name = "n_samples_for_target"
        middle, low, high = posterior.n_samples_for(target_loss, level)
        row |= {name: middle, f"{name}_lower": low, f"{name}_upper": high}
        row[f"{name}_fit"] = fit.n_samples_for(target_loss)
    return row
