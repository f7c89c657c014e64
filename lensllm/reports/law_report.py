"""The output of `lensllm fit`: tables of fits, comparisons of laws, figures of curves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lensllm.laws import (
    CurveStack,
    LawFits,
    ScalingLaw,
    fit_stack,
    fits_table,
    forward_table,
    forward_validation,
    information_criteria,
    stack_curves,
)
from lensllm.laws.comparison import TooFewSizesError
from lensllm.reports.curves_figure import CurvePlot, save_curves
from lensllm.reports.style import compact
from lensllm.system.harmless import write_csv

logger = logging.getLogger(__name__)

_MAX_DRAWN = 120
_FAR = (
    2.0  # times the RMSE of another law; AICc prefers the worse one of k = 4 and 5 for n ≤ 8 only
)


def write_law_report(
    curves: pd.DataFrame,
    laws: Sequence[ScalingLaw],
    folder: Path,
    *,
    datasets: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    max_n_samples: float | None = None,
    predict_at: Sequence[float] = (),
    target_loss: float | None = None,
    level: float = 0.8,
    forward: bool | None = None,
    figures: bool = True,
    **options: Any,
) -> str:
    """Fit laws to curves and write `fits.csv`, the comparison and the figures.

    Args:
        curves: Tidy table of curves (see `lensllm.core.curves`).
        laws: The laws; the first one is drawn with its interval.
        folder: Output folder.
        datasets: Names of data sets; all by default.
        models: Names of models; all by default.
        max_n_samples: Fit only sizes up to this one.
        predict_at: Sizes D to predict the loss at.
        target_loss: Loss for which to report the amount of data needed.
        level: Level of the intervals.
        forward: Whether to do forward validation (`forward.csv`); by default with several laws.
        figures: Whether to draw figures.
        **options: Options of `fit_laws`.

    Returns:
        The text to print.

    Raises:
        ValueError: A name is not in the table, or no law can be fitted to a curve.
    """
    curves = _choose(curves, "dataset", datasets)
    curves = _choose(curves, "model", models)
    stack = stack_curves(curves, np.inf if max_n_samples is None else max_n_samples)
    fitted = [fit_stack(law, stack, on_error="skip", progress=True, **options) for law in laws]
    usable = np.any([np.isfinite(fits.params).all(axis=1) for fits in fitted], axis=0)
    if not usable.any():
        fit_stack(laws[0], stack, on_error="raise", **options)  # says what is missing
    left_out = _left_out(stack, usable, laws)
    if left_out:
        stack, kept = stack.take(usable), np.flatnonzero(usable).tolist()
        fitted = [fits.take(kept) for fits in fitted]
        curves = curves.merge(stack.index, on=["dataset", "model"])
    numbers: dict[str, Any] = {
        "predict_at": predict_at,
        "target_loss": target_loss,
        "level": level,
    }
    table = pd.concat(
        [
            pd.concat([fits_table(stack, fits, **numbers), information_criteria(fits)], axis=1)
            for fits in fitted
        ],
        ignore_index=True,
    )
    write_csv(table, folder / "fits.csv")
    lines = [_print_fits(table, level), _print_summary(table), *left_out]
    if forward or (forward is None and len(laws) > 1):
        lines.append(_write_forward(curves, laws, folder, level, options))
    if figures:
        lines.append(_write_figures(curves, stack, fitted, folder, level, predict_at))
    lines.append(f"Wrote {folder / 'fits.csv'}")
    return "\n\n".join(lines)


def _choose(curves: pd.DataFrame, column: str, names: Sequence[str] | None) -> pd.DataFrame:
    """The rows with the given names."""
    if names is None:
        return curves
    known = set(curves[column])
    for name in names:
        if name not in known:
            raise ValueError(
                f"Expected one of the {column}s {', '.join(sorted(known))}, got {name!r}"
            )
    return curves[curves[column].isin(names)]


def _left_out(stack: CurveStack, usable: np.ndarray, laws: Sequence[ScalingLaw]) -> list[str]:
    """Lines about the curves that no law could be fitted to."""
    least = min(law.n_params for law in laws)
    seen = np.isfinite(stack.losses) & (stack.n_samples > 0)
    sizes = [len(set(stack.n_samples[row])) for row in seen]
    return [
        f"Left out {row.model} on {row.dataset}: it has {n} sizes D > 0, and the smallest law that "
        f"was asked for has {least} parameters"
        for row, n, good in zip(stack.index.itertuples(), sizes, usable, strict=True)
        if not good
    ]


def _print_fits(table: pd.DataFrame, level: float) -> str:
    """The fits as text, one line per curve and law, with intervals of the requested values."""
    names = ["dataset", "model", "law", "scale", "beta", "pre_learned_size", "n_steps"]
    names += ["irreducible_loss", "alpha", "transition_size", "rmse_log"]
    shown = table[[name for name in names if name in table]].copy()
    for name in table:
        stem = name.removesuffix("_fit")
        if stem != name:
            ends = zip(table[stem], table[f"{stem}_lower"], table[f"{stem}_upper"], strict=True)
            shown[stem] = [
                f"{x:.5g} [{low:.4g}, {high:.4g}]" if x == x else "–" for x, low, high in ends
            ]
    text = shown.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="–")
    if any(name.endswith("_fit") for name in table):
        text += (
            f"\nPredictions: median and {level:.0%} interval of the posterior. Parameters: the "
            "best fit, which need not agree with it where points are few."
        )
    notes = [
        f"{row.dataset} {row.model} ({row.law}): {row.warnings}"
        for row in table.itertuples()
        if row.warnings
    ]
    return "\n".join([text, *(["", "Not to be trusted blindly:", *notes] if notes else [])])


def _print_summary(table: pd.DataFrame) -> str:
    """Mean RMSE on log loss by law and data set, and the laws with the best AICc."""
    fitted = table[np.isfinite(table["rmse_log"])]
    means = fitted.pivot_table(index="dataset", columns="law", values="rmse_log", aggfunc="mean")
    text = "Mean RMSE on log loss\n" + means.to_string(float_format=lambda x: f"{x:.5f}")
    if fitted["law"].nunique() > 1:
        text += f"\n\n{_print_aicc(fitted)}"
    return text


def _print_aicc(fitted: pd.DataFrame) -> str:
    """How often a law has the lowest AICc, of the curves that have one for every fitted law."""
    curve = ["dataset", "model"]
    enough = np.isfinite(fitted["aicc"]).groupby([fitted[name] for name in curve]).transform("all")
    n_short = len(fitted.loc[~enough, curve].drop_duplicates())
    left = f"Curves with too few points for the AICc of every fitted law: {n_short}"
    if not enough.any():
        return left
    best = fitted.loc[fitted[enough].groupby(curve)["aicc"].idxmin()]
    counts = best.groupby(["dataset", "law"]).size().unstack(fill_value=0)
    lines = ["Curves on which a law has the lowest AICc", counts.to_string()]
    lines += [left] if n_short else []
    closest = fitted[enough].groupby(curve)["rmse_log"].min()
    n_far = int((best.set_index(curve)["rmse_log"] > _FAR * closest).sum())
    if n_far:
        lines.append(
            f"On {n_far} of these curves the law with the lowest AICc has more than {_FAR:g} times "
            "the RMSE of another one: with so few points AICc favours few parameters and can "
            "hardly choose"
        )
    return "\n".join(lines)


def _write_forward(
    curves: pd.DataFrame,
    laws: Sequence[ScalingLaw],
    folder: Path,
    level: float,
    options: dict[str, Any],
) -> str:
    """Do forward validation if sizes suffice, write both tables, and return the shorter one."""
    try:
        validation = forward_validation(curves, laws, level=level, **options)
    except TooFewSizesError:
        least = min(law.n_params for law in laws) + 1
        return f"Forward validation left out: it needs {least} sizes or more"
    write_csv(validation, folder / "forward.csv")
    table = forward_table(validation)
    write_csv(table, folder / "forward_summary.csv")
    wide = table.pivot(index=["dataset", "horizon"], columns="law", values="rmse_log")
    lines = [
        "Forward validation: RMSE on log loss of sizes beyond the fit, by horizon D / b",
        wide.to_string(float_format=lambda x: f"{x:.4f}", na_rep="–"),
    ]
    lines += [
        f"Left out of it: {law.name}, which needs {law.n_params + 1} sizes or more"
        for law in laws
        if law.name not in wide
    ]
    return "\n".join(lines)


def _transition_notes(size: float, largest: float) -> list[str]:
    """The transition size of a fit as a line of a panel; `nan` is a law without one."""
    if not np.isfinite(size):
        return []
    if size < 1:
        return ["no pre-power phase"]
    beyond = ", beyond all data" if size > largest else ""
    return [f"transition at {compact(size)} samples{beyond}"]


def _write_figures(
    curves: pd.DataFrame,
    stack: CurveStack,
    fitted: Sequence[LawFits],
    folder: Path,
    level: float,
    predict_at: Sequence[float],
) -> str:
    """Draw each data set's curves into `figures/`, at most 120 curves in all."""
    drawn = stack.index.iloc[:_MAX_DRAWN]
    parts = [fits.take(range(len(drawn))) for fits in fitted]
    plots: dict[str, list[CurvePlot]] = {}
    for i, (dataset, model) in enumerate(drawn.itertuples(index=False)):
        points = curves[(curves["dataset"] == dataset) & (curves["model"] == model)]
        fits = [part[i] for part in parts if np.isfinite(part[i].params).all()]
        size = fits[0].transition_size if fits else np.nan
        notes = _transition_notes(size, points["n_samples"].max())
        plot = CurvePlot(
            title=f"{model}, {dataset}",
            n_samples=points["n_samples"].to_numpy(dtype=float),
            losses=points["test_loss"].to_numpy(dtype=float),
            fits=fits,
            n_samples_full=max(predict_at, default=None),
            level=level,
            notes=notes,
        )
        plots.setdefault(dataset, []).append(plot)
    files = [
        file
        for dataset, panels in plots.items()
        for file in save_curves(panels, folder / "figures", dataset)
    ]
    rest = len(stack.index) - len(drawn)
    extra = f" ({rest} further curves not drawn)" if rest else ""
    return f"Drew {len(drawn)} curves in {len(files)} files in {folder / 'figures'}{extra}"
