"""Figures of a curvature analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lensllm.curvature.analysis import CurvatureAnalysis


def save_figures(analysis: CurvatureAnalysis, folder: Path) -> dict[str, Path]:
    """Draw the NTK spectrum, F(t), the Hessian terms by layer and the bound's terms.

    Args:
        analysis: What to draw.
        folder: Where the PNG files go.

    Returns:
        Their paths by name.
    """
    figures = {
        "ntk": ntk_figure(analysis),
        "hessian": hessian_figure(analysis),
    }
    paths = {}
    for name, figure in figures.items():
        paths[name] = folder / f"{name}.png"
        figure.savefig(paths[name], dpi=150)
    return paths


def ntk_figure(analysis: CurvatureAnalysis) -> Figure:
    """Eigenvalues with the share of the residual in them; F(t) with the early-stopping steps."""
    curve = analysis.curve
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    spectrum, losses = analysis.spectrum_table(), analysis.loss_table().iloc[1:]
    left.loglog(spectrum["number"], spectrum["eigenvalue"], color="C0")
    left.set(xlabel="eigenvalue number", ylabel="eigenvalue of the NTK")
    left.yaxis.label.set_color("C0")
    share = left.twinx()
    share.plot(spectrum["number"], spectrum["captured"], color="C1")
    share.set(ylabel="share of the residual up to it", ylim=(0, 1.02))
    share.yaxis.label.set_color("C1")
    right.semilogx(losses["n_steps"], losses["ntk_loss"], color="C0")
    for entry in analysis.sizes:
        step = max(entry.result.best_step, losses["n_steps"].iloc[0])
        right.plot(step, curve(step), "o", color="C3")
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


def hessian_figure(analysis: CurvatureAnalysis) -> Figure:
    """Largest Hessian term by layer and size; the bound's terms beside the test loss."""
    layers, sizes = analysis.layer_table(), analysis.size_table()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for layer, rows in layers.groupby("layer", sort=False):
        left.errorbar(
            rows["n_samples"],
            rows["hessian_max"],
            yerr=np.minimum(rows["hessian_max_error"], 0.9 * rows["hessian_max"]),
            marker="o",
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
