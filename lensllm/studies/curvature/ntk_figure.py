"""The figure of the NTK study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lensllm.reports.style import INK, MUTED, OTHER, line_style, new_figure, save, styled
from lensllm.studies.curvature.ntk_study import LABELS, NTKStudy
from lensllm.studies.curvature.prediction import compare_with_rectified
from lensllm.system.harmless import drawn, safe_name


@styled
def save_ntk_figure(study: NTKStudy, folder: Path) -> Path:
    """Draw F(t), F(0) against D_l, and the errors of forward validation.

    Args:
        study: What to draw.
        folder: Where the PNG and SVG files go.

    Returns:
        The path of the PNG.
    """
    figure = new_figure(13, 3.8)
    left, middle, right = figure.subplots(1, 3)
    colours = {name: line_style(i) for i, name in enumerate(sorted(study.ntk))}
    _draw_curves(left, study, colours)
    _draw_terms(middle, study, colours)
    _draw_forward(right, study)
    figure.suptitle(f"{study.dataset}: the NTK term of LensLLM")
    return save(figure, folder / f"ntk_study_{safe_name(study.dataset)}.png")


def _draw_curves(axes: Axes, study: NTKStudy, colours: dict[str, dict[str, Any]]) -> None:
    """F(t), and D_l of each candidate, which F would have to equal for the rectified law."""
    for name, colour in colours.items():
        curve = study.ntk[name]
        steps = np.geomspace(0.01 / curve.rates.max(), 3 / curve.rates[curve.rates > 0].min(), 300)
        axes.semilogx(steps, curve(steps), **{**colour, "marker": ""}, label=drawn(name))
    steps = study.terms["best_step"]
    axes.axvspan(
        0.8 * steps.min(), 1.25 * steps.max(), color=OTHER, alpha=0.35, label="early stopping"
    )
    axes.set(xlabel="steps t", ylabel="F(t), squared nats")
    axes.legend(fontsize=6, loc="upper right", bbox_to_anchor=(0.93, 1.0))


def _draw_terms(axes: Axes, study: NTKStudy, colours: dict[str, dict[str, Any]]) -> None:
    """F(0) and D_l with its interval, one point per candidate and seed."""
    for row in study.terms.itertuples():
        ends = [[max(row.pre_learned_size - row.pre_learned_size_lower80, 0.0)]]
        ends += [[max(row.pre_learned_size_upper80 - row.pre_learned_size, 0.0)]]
        axes.errorbar(
            [row.ntk_zero * (1 + 0.004 * row.seed)],
            [row.pre_learned_size],
            yerr=ends,
            fmt="os^dv"[int(row.seed) % 5],
            color=colours[row.model]["color"],
            markersize=4,
            linewidth=0.8,
        )
    top = study.terms["ntk_zero"]
    line = np.array([0.95 * top.min(), 1.05 * top.max()])
    axes.plot(line, line, color=MUTED, linestyle="--", label="D_l = F(0)")
    axes.set(
        xlabel="F(0) of the NTK", ylabel="fitted $D_l$, 80 % interval (marker: seed)", yscale="log"
    )
    axes.legend(fontsize=7)


def _draw_forward(axes: Axes, study: NTKStudy) -> None:
    """Difference in RMSE to the rectified law."""
    found = compare_with_rectified(study.forward)
    names = [name for name in reversed(LABELS) if name in found.index and name != "rectified"]
    rows = found.loc[names]
    place = np.arange(len(names))
    errors = [rows["difference"] - rows["lower80"], rows["upper80"] - rows["difference"]]
    axes.errorbar(
        rows["difference"], place, xerr=np.maximum(errors, 0.0), fmt="o", color=INK, capsize=3
    )
    axes.axvline(0.0, color=MUTED, linestyle="--")
    axes.set_yticks(place, [LABELS[name] for name in names], fontsize=7)
    axes.margins(y=0.15)
    base = found.loc["rectified", "rmse_log"]
    axes.set(xlabel=f"RMSE minus rectified law's ({base:.3f}), log loss")
