"""Figures of pre-hoc prediction: risk with its parts, the phase diagram, rule against depths."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.prehoc.phases import MAJORITY, Phase
from lensllm.prehoc.predictors import Information
from lensllm.reports.style import (
    LEAF,
    MARKERS,
    MUTED,
    PALETTE,
    SAND,
    SKY,
    new_figure,
    set_log_ticks,
    styled,
)
from lensllm.studies.prehoc.analysis import TaskAnalysis
from lensllm.system.harmless import drawn

_COLORS: dict[Information, str] = {"trace": PALETTE[0], "static_trace": PALETTE[1]}
_NAMES: dict[Information, str] = {"trace": "trace to c", "static_trace": "static and trace to c"}
_STATIC, _DYNAMIC, _NOISE = LEAF, SKY, SAND
_POINTS = (*PALETTE, MUTED)


@styled
def risk_figure(tasks: Sequence[TaskAnalysis]) -> Figure:
    """R(c) of each predictor with its interval, R(0), and the fitted law in its two parts."""
    figure = new_figure(4.3 * len(tasks), 3.6)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _draw_risk(axes, task)
    panels[0].set_ylabel("risk of predicting the final loss (nats²)", fontsize=8.5)
    figure.supxlabel("cost c of the probe, share of the full run", fontsize=9)
    return figure


def _draw_risk(axes: Axes, task: TaskAnalysis) -> None:
    d = task.decomposition
    axes.set_xscale("log")
    axes.set_yscale("log")
    grid = np.geomspace(d.costs[0], d.costs[-1], 120)
    lowest = min(float(d.risk(kind).min()) for kind in _COLORS)
    bottom = 0.4 * lowest
    intrinsic = max(d.law.intrinsic, bottom)
    axes.fill_between(grid, bottom, intrinsic, color=_NOISE, lw=0, label="intrinsic σ²")
    curve = np.maximum(d.law.intrinsic + d.law.scale * grid**-d.law.decay, bottom)
    axes.fill_between(grid, intrinsic, curve, color=_DYNAMIC, lw=0, label="reducible V(c)")
    fall = float(d.law.reducible(d.costs[0]) - d.law.reducible(d.costs[-1]))
    falls = fall > 1e-6 * d.law.intrinsic
    label = f"law, α = {d.law.decay:.2f}" if falls else "law, nothing reducible"
    axes.plot(grid, curve, color=MUTED, lw=1.3, label=label)
    for kind, color in _COLORS.items():
        low, high = d.interval(kind)
        axes.plot(d.costs, d.risk(kind), "o-", color=color, ms=3, lw=1.0, label=_NAMES[kind])
        axes.fill_between(d.costs, np.maximum(low, bottom), high, color=color, alpha=0.12, lw=0)
    axes.axhline(d.static_risk, color="0.4", ls="--", lw=1.0, label="R(0), static alone")
    axes.axhline(d.outcome_variance, color="0.4", ls=":", lw=1.0, label="Var(Y)")
    if task.plan.cost > 0:
        axes.axvline(task.plan.cost, color=PALETTE[2], lw=1.0, label=f"c* = {task.plan.cost:.2g}")
    axes.set_ylim(bottom=bottom)
    set_log_ticks(axes, "y")
    verdict = re.split("[;(]", task.phase.verdict)[0].strip()
    axes.set_title(drawn(f"{d.task}: {verdict}"), fontsize=8.5)
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if t >= 0.9 * d.costs[0]]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.tick_params(which="both", labelsize=7)
    axes.legend(fontsize=6, loc="lower left", framealpha=0.8)


@styled
def phase_figure(phases: Sequence[Phase]) -> Figure:
    """All tasks in the plane of static and intrinsic share of Var(Y), with bootstrap clouds."""
    figure = new_figure(5.4, 5.2)
    axes = figure.subplots()
    half = MAJORITY
    for corners, color, name, place in (
        ([(half, 0), (1, 0), (half, half)], _STATIC, "static-sufficient", (0.52, 0.02)),
        ([(0, half), (0, 1), (half, half)], _NOISE, "noise-dominant", (0.02, 0.52)),
        ([(0, 0), (half, 0), (0, half)], _DYNAMIC, "dynamic-critical", (0.02, 0.44)),
    ):
        axes.fill(*zip(*corners, strict=True), color=color, lw=0, zorder=0)
        axes.text(*place, name, fontsize=8.5, color="0.3", zorder=1)
    axes.plot([0, 1], [1, 0], color="0.5", lw=0.8)
    axes.text(0.34, 0.34, "mixed", fontsize=8.5, color="0.3", ha="center")
    for marker, color, phase in zip(MARKERS, _POINTS, phases, strict=False):
        axes.plot(phase.draws[:, 0], phase.draws[:, 2], ".", color=color, ms=2.2, alpha=0.25)
        x, y = phase.shares[0], phase.shares[2]
        label = textwrap.fill(f"{phase.task}: {phase.verdict}", 80, subsequent_indent="    ")
        axes.plot(
            [x], [y], marker, color=color, ms=7, mec="black", mew=0.8, zorder=4, label=drawn(label)
        )
    figure.legend(fontsize=7.5, loc="outside lower center")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel("share of Var(Y) that static features explain", fontsize=9)
    axes.set_ylabel("intrinsic share, σ² / Var(Y)", fontsize=9)
    axes.tick_params(labelsize=8)
    return figure


@styled
def depth_figure(depths: pd.DataFrame) -> Figure:
    """Regret of the rule and of fixed depths at the same total cost, one panel per task."""
    tasks = sorted(depths["task"].unique())
    figure = new_figure(3.6 * len(tasks), 3.2)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        rows = depths[depths["task"] == task]
        for shift, way, color in ((0.94, "fixed", PALETTE[4]), (1.06, "rule", PALETTE[0])):
            own = rows[rows["way"] == way]
            means = own.groupby("depth")["regret"].mean()
            axes.plot(own["depth"] * shift, own["regret"], ".", color=color, alpha=0.5, ms=5)
            axes.plot(means.index * shift, means, "o-", color=color, ms=5, lw=1.1, label=way)
        axes.set_xscale("log")
        ticks = sorted(rows["depth"].unique())
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.minorticks_off()
        axes.set_title(drawn(task), fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.legend(fontsize=7)
    panels[0].set_ylabel("regret of the choice (nats)", fontsize=8.5)
    figure.supxlabel("total cost, share of fine-tuning every candidate in full", fontsize=9)
    return figure
