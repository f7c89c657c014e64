"""What earlier tasks say about families and candidates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lensllm.selection.base import Candidate
from lensllm.selection.pooled.effects import family_index, shrunken_effects
from lensllm.selection.pooled.model import fit_pooled
from lensllm.selection.pooled.settings import PooledSettings
from lensllm.selection.pooled.table import LossTable


def earlier_effects(
    table: LossTable, target: float, prior: pd.DataFrame, settings: PooledSettings
) -> np.ndarray:
    """Effects that earlier tasks let expect, in units of the spread of rates.

    Every earlier data set is put into the position of this task: its points up to the largest size
    seen here predict its loss at the target, or at its largest size below. What the prediction got
    wrong, candidate against candidate and a doubling, is shrunk to effects of families and
    candidates, and the means over data sets, times `prior_weight`, are expected here.

    Args:
        table: The points of this task.
        target: D_full.
        prior: Tidy table of curves of earlier tasks.
        settings: The settings.

    Returns:
        Shape (n_models,); 0 for candidates of which nothing is known.
    """
    total, count = np.zeros(len(table.models)), np.zeros(len(table.models))
    if settings.prior_weight > 0:
        for _, curves in prior.groupby("dataset"):
            found = _effects_of(curves, table, target, settings)
            known = np.isfinite(found)
            total[known] += found[known]
            count += known
    return settings.prior_weight * total / np.maximum(count, 1)


def _effects_of(
    curves: pd.DataFrame, table: LossTable, target: float, settings: PooledSettings
) -> np.ndarray:
    """Effects on one earlier data set for the candidates of this task; `nan` where unknown."""
    nothing = np.full(len(table.models), np.nan)
    whole = LossTable.from_curves(_candidates(curves), curves)
    later = whole.sizes[(whole.sizes > table.sizes[-1]) & (whole.sizes <= target)]
    early = whole.until(table.sizes[-1])
    if not len(later) or len(early.sizes) < settings.min_points:
        return nothing
    position = int(np.flatnonzero(whole.sizes == later[-1])[0])
    truth = whole.log_loss[:, position]
    rows = np.flatnonzero(early.seen.any(axis=1) & np.isfinite(truth))
    if len(rows) < 2:
        return nothing
    model = fit_pooled(early.take(rows), settings)
    sizes = later[-1:]
    rates = (model.centre(sizes)[:, 0] - truth[rows]) / model.doublings(sizes)[:, 0]
    rates -= rates.mean()
    spread = np.sqrt((rates**2).mean())
    return _transferred(model.table, rates / spread if spread else rates, table, settings)


def _transferred(
    earlier: LossTable, rates: np.ndarray, table: LossTable, settings: PooledSettings
) -> np.ndarray:
    """Effects of this task's candidates, given standardised rates of an earlier task's."""
    names = [*earlier.models, *(f"\0{name}" for name in table.models)]
    family = family_index(names, [*earlier.families, *table.families])
    padded = np.concatenate([rates, np.full(len(table.models), np.nan)])
    mean, _ = shrunken_effects(
        padded, family, np.zeros(len(padded)), settings.family_variance, settings.model_variance
    )
    by_name = dict(zip(earlier.models, mean[: len(rates)], strict=True))
    known = set(family[: len(rates)].tolist())
    return np.array(
        [
            by_name.get(name, effect if group in known else np.nan)
            for name, effect, group in zip(
                table.models, mean[len(rates) :], family[len(rates) :], strict=True
            )
        ]
    )


def _candidates(curves: pd.DataFrame) -> list[Candidate]:
    """The candidates of a table of curves."""
    families = (
        curves.groupby("model")["family"].first().fillna("").to_dict() if "family" in curves else {}
    )
    return [
        Candidate(name, family=str(families.get(name, ""))) for name in curves["model"].unique()
    ]
