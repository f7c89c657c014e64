"""Figures of a curvature analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lensllm.curvature.analysis import CurvatureAnalysis
from lensllm.reports.style import PALETTE, PREDICTED, line_style, new_figure, save, styled


def save_figures(analysis: CurvatureAnalysis, folder: Path) -> dict[str, Path]:
    """Draw the NTK spectrum, F(t), the Hessian terms by layer and the bound's terms.

    Args:
        analysis: What to draw.
        folder: Where the PNG and SVG files go.

    Returns:
        The paths of the PNG files by name.
    """
    figures = {
        "ntk": ntk_figure(analysis),
        "hessian": hessian_figure(analysis),
    }
    return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}


@styled
def ntk_figure(analysis: CurvatureAnalysis) -> Figure:
    """Eigenvalues with the share of the residual in them; F(t) with the early-stopping steps."""
    curve = analysis.curve
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    spectrum, losses = analysis.spectrum_table(), analysis.loss_table().iloc[1:]
    left.loglog(spectrum["number"], spectrum["eigenvalue"], color=PALETTE[0])
    left.set(xlabel="eigenvalue number", ylabel="eigenvalue of the NTK")
    left.yaxis.label.set_color(PALETTE[0])
    share = left.twinx()
    share.plot(spectrum["number"], spectrum["captured"], color=PALETTE[1])
    share.set(ylabel="share of the residual up to it", ylim=(0, 1.02))
    share.yaxis.label.set_color(PALETTE[1])
    right.semilogx(losses["n_steps"], losses["ntk_loss"], color=PALETTE[0])
    for entry in analysis.sizes:
        step = max(entry.result.best_step, losses["n_steps"].iloc[0])
        right.plot(step, curve(step), "o", color=PREDICTED)
        right.annotate(
            f"D = {entry.result.trial.n_samples}",
            (step, float(curve(step))),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=7,
        )
    right.set(xlabel="steps t", ylabel="F(t), squared nats")
    figure.suptitle(f"{analysis.model}: empirical NTK at the pre-trained weights")
    return figure


@styled
def hessian_figure(analysis: CurvatureAnalysis) -> Figure:
    """Largest Hessian term by layer and size; the bound's terms beside the test loss."""
    layers, sizes = analysis.layer_table(), analysis.size_table()
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for i, (layer, rows) in enumerate(layers.groupby("layer", sort=False)):
        left.errorbar(
            rows["n_samples"],
            rows["hessian_max"],
            yerr=np.minimum(rows["hessian_max_error"], 0.9 * rows["hessian_max"]),
            **line_style(i),
            capsize=2,
            label=layer,
        )
    left.set(xscale="log", yscale="log", xlabel="D", ylabel="largest Hessian term h of the sample")
    left.legend(fontsize=6)
    for name, label in (
        ("test_loss", "measured test loss"),
        ("empirical_term", "(1 + ε) training loss"),
        ("hessian_term", "Hessian term"),
        ("rate_of_remainder", "n^(-3/4), constant unknown"),
    ):
        style = "--" if name == "rate_of_remainder" else "-"
        right.loglog(sizes["n_samples"], sizes[name], style, marker="o", label=label)
    right.set(xlabel="D", ylabel="nats per target token")
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.set_xticks(sizes["n_samples"], sizes["n_samples"].astype(str))
        axes.xaxis.minorticks_off()
    figure.suptitle(f"{analysis.model}: Hessian terms after fine-tuning (not a certified bound)")
    return figure
