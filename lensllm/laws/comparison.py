"""Model selection among laws: forward validation and information criteria."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lensllm.laws.base import ScalingLaw
from lensllm.laws.rectified import RectifiedLaw
from lensllm.laws.result import LawFits
from lensllm.laws.tables import CurveStack, fit_stack, stack_curves
from lensllm.laws.vanilla import VanillaLaw

# Gives the law of one curve for a data set, model and budget b.
LawOf = Callable[[str, str, float], ScalingLaw]


class TooFewSizesError(ValueError):
    """No curve has enough sizes for forward validation."""


def comparable_laws() -> tuple[ScalingLaw, ...]:
    """The laws that need only a curve: rectified, vanilla and vanilla without α."""
    return RectifiedLaw(), VanillaLaw(), VanillaLaw(with_alpha=False)


def information_criteria(fits: LawFits) -> pd.DataFrame:
    """AIC, corrected AIC and BIC of each fit, for normal noise on log loss.

    With n points, k = parameters + 1 (the noise) and RSS the residual sum of squares on log loss,
    AIC = n log(RSS / n) + 2k, AICc = AIC + 2k (k + 1) / (n − k − 1), and
    BIC = n log(RSS / n) + k log n.
    They are valid for fits of `squared_log` only. Compare them between laws fitted to the same
    points.

    Args:
        fits: The fits.

    Returns:
        Columns `aic`, `aicc` (infinite for n ≤ k + 1) and `bic`, one row per curve; `nan` where the
        law was not fitted.
    """
    n = fits.n_points.astype(float)
    k = fits.laws[0].n_params + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = n * np.log(fits.rmse_log**2)
        aic = likelihood + 2 * k
        aicc = np.where(n > k + 1, aic + 2 * k * (k + 1) / np.maximum(n - k - 1, 1e-300), np.inf)
        bic = likelihood + k * np.log(n)
    table = pd.DataFrame({"aic": aic, "aicc": aicc, "bic": bic})
    table.loc[~np.isfinite(fits.params).all(axis=1)] = np.nan
    return table


def forward_validation(
    curves: pd.DataFrame,
    laws: Sequence[ScalingLaw] | Mapping[str, LawOf],
    *,
    objective: str = "squared_log",
    delta: float = 1e-3,
    use_zero: bool | None = None,
    n_starts: int = 32,
    seed: int = 0,
    level: float = 0.8,
    posterior: bool = True,
) -> pd.DataFrame:
    """Fit each law to the points D ≤ b of each curve, and predict the points beyond, for every b.

    Args:
        curves: Tidy table of curves (see `lensllm.core.curves`).
        laws: The laws; or, by name, functions from data set, model and budget to the law of that
            curve, all of one class (LensLLM's, with what is known of each candidate).
        objective: See `fit_law`, as the next four.
        delta: δ of `huber`.
        use_zero: Whether D = 0 is a point of the fits.
        n_starts: Starting points of each fit.
        seed: Seed of the starting points and of the posteriors.
        level: Level of the intervals.
        posterior: Whether to predict by the posterior as well.

    Returns:
        One row per law, curve, budget and size: `law, dataset, model, max_n_samples` (b),
        `n_samples`, `horizon` (D / b), `test_loss`, `predicted`, `log_error` (predicted minus true
        log loss), and, where asked for, the posterior's `median`, `lower`, `upper`.

    Raises:
        TooFewSizesError: No curve has points beyond the fewest that a law needs.
    """
    stack = stack_curves(curves)
    named = laws if isinstance(laws, Mapping) else {law.name: _always(law) for law in laws}
    tables = [
        _predict_beyond(
            name,
            law_of,
            stack,
            budget,
            level if posterior else None,
            objective=objective,
            delta=delta,
            use_zero=use_zero,
            n_starts=n_starts,
            seed=seed,
        )
        for name, law_of in named.items()
        for budget in np.unique(stack.n_samples[stack.n_samples > 0])[:-1]
    ]
    tables = [table for table in tables if len(table)]
    if not tables:
        first = stack.index.iloc[0]
        fewest = min(
            law_of(first["dataset"], first["model"], stack.n_samples.max()).n_params
            for law_of in named.values()
        )
        raise TooFewSizesError(
            f"Expected curves with more sizes than the laws have parameters ({fewest}), got at "
            f"most {int(np.isfinite(stack.losses).sum(axis=1).max())} points"
        )
    return pd.concat(tables, ignore_index=True)


def _always(law: ScalingLaw) -> LawOf:
    """The same law for all curves and budgets."""
    return lambda dataset, model, budget: law


def _predict_beyond(
    name: str,
    law_of: LawOf,
    stack: CurveStack,
    budget: float,
    level: float | None,
    **options: object,
) -> pd.DataFrame:
    """Forward validation of one law at one budget."""
    laws = [law_of(row["dataset"], row["model"], budget) for _, row in stack.index.iterrows()]
    sizes = stack.n_samples
    seen = np.where(sizes <= budget, stack.losses, np.nan)
    kept = np.isfinite(np.where(sizes == budget, stack.losses, np.nan)).any(axis=1)
    later = np.unique(sizes[sizes > budget])
    fits = fit_stack(laws, stack.with_losses(seen), on_error="skip", **options)
    kept &= np.isfinite(fits.params).all(axis=1)
    predicted = fits.predict(later)
    truth = np.stack([_mean_at(stack, size) for size in later], axis=1)
    rows, columns = np.nonzero(np.isfinite(truth) & kept[:, None])
    table = stack.index.iloc[rows].reset_index(drop=True)
    table.insert(0, "law", name)
    table["max_n_samples"] = budget
    table["n_samples"] = later[columns]
    table["horizon"] = later[columns] / budget
    table["test_loss"] = truth[rows, columns]
    table["predicted"] = predicted[rows, columns]
    table["log_error"] = np.log(table["predicted"] / table["test_loss"])
    if level is not None and len(table):
        levels = [0.5, 0.5 - level / 2, 0.5 + level / 2]
        quantiles = {
            i: item.quantiles(later, levels)
            for i, item in enumerate(fits.posteriors)
            if item is not None and kept[i]
        }
        for j, name in enumerate(("median", "lower", "upper")):
            table[name] = [quantiles[i][j, c] for i, c in zip(rows.tolist(), columns, strict=True)]
    return table


def _mean_at(stack: CurveStack, size: float) -> np.ndarray:
    """Mean loss over the seeds at one size, (n_curves,); `nan` where there is none."""
    values = stack.losses[:, stack.n_samples == size]
    count = np.isfinite(values).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def forward_table(validation: pd.DataFrame) -> pd.DataFrame:
    """Root mean squared log error and interval coverage by law, data set and horizon.

    Only predictions that every law of the table could make are counted, so laws are compared on
    the same curves, budgets and sizes.

    Args:
        validation: What `forward_validation` returned.

    Returns:
        One row per law, data set and horizon: `n`, `rmse_log` and, where there are intervals,
        `rmse_log_median` (of the posterior's median) and `coverage`.
    """
    keys = ["dataset", "model", "max_n_samples", "n_samples"]
    n_laws = validation.groupby(keys)["law"].transform("nunique")
    table = validation[n_laws == validation["law"].nunique()].copy()
    table["squared"] = table["log_error"] ** 2
    columns = {"n": ("squared", "size"), "rmse_log": ("squared", "mean")}
    if "median" in table:
        table["squared_median"] = np.log(table["median"] / table["test_loss"]) ** 2
        table["inside"] = table["test_loss"].between(table["lower"], table["upper"])
        columns["rmse_log_median"] = ("squared_median", "mean")
        columns["coverage"] = ("inside", "mean")
    result = table.groupby(["law", "dataset", "horizon"], sort=True).agg(**columns).reset_index()
    for name in ("rmse_log", "rmse_log_median"):
        if name in result:
            result[name] = np.sqrt(result[name])
    return result
