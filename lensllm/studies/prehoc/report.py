"""Tables, figures and the record of an analysis."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensllm.finetune.trackers import MakeLogger, Trackers
from lensllm.reports.style import save
from lensllm.studies.prehoc.analysis import Analysis, TaskAnalysis
from lensllm.studies.prehoc.figures import depth_figure, phase_figure, risk_figure
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact, write_csv


def write_analysis(
    analysis: Analysis,
    folder: str | Path,
    settings: Mapping[str, Any],
    make_loggers: Mapping[str, MakeLogger] | None = None,
) -> list[Path]:
    """Write tables, figures and `prehoc.json`, and log them as one run.

    Args:
        analysis: What was found.
        folder: Where to write.
        settings: Of the analysis, kept in the record.
        make_loggers: Makers of loggers of `lensllm.finetune.loggers` by name.

    Returns:
        The files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"tasks": analysis.table(), "risks": analysis.risks()}
    if not analysis.depths.empty:
        tables |= {"depths": analysis.depths, "comparison": analysis.comparison}
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        write_csv(table, files[-1])
    figures = {
        "risk": risk_figure(analysis.tasks),
        "phases": phase_figure([task.phase for task in analysis.tasks]),
    }
    if not analysis.depths.empty:
        figures["depths"] = depth_figure(analysis.depths)
    pictures = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save(figure, pictures[name])
    record = {
        "settings": dict(settings),
        "tasks": [_plain(task.row()) | _words(task) for task in analysis.tasks],
        "refused": analysis.refused,
    }
    path = folder / "prehoc.json"
    write_whole(path, json.dumps(redact(record), indent=1) + "\n")
    if make_loggers:
        _log(analysis, record, pictures, make_loggers)
    return [path, *files, *pictures.values()]


def summary_lines(analysis: Analysis) -> list[str]:
    """What was found, in sentences."""
    lines = []
    for task in analysis.tasks:
        d, law = task.decomposition, task.decomposition.law
        lows = {name: law.interval(name) for name in ("intrinsic", "decay")}
        lines += [
            f"{d.task}: {task.phase.verdict} (static {d.shares[0][0]:.0%}, dynamic "
            f"{d.shares[0][1]:.0%}, intrinsic {d.shares[0][2]:.0%} of Var(Y) = "
            f"{d.outcome_variance:.3g} nats²)",
            f"  σ²_int {law.intrinsic:.3g} ({lows['intrinsic'][0]:.3g} to "
            f"{lows['intrinsic'][1]:.3g}), κ {law.scale:.3g}, α {law.decay:.2f} "
            f"({lows['decay'][0]:.2f} to {lows['decay'][1]:.2f}); seeds alone "
            f"{d.seed_variance:.3g}. {d.support.sentence}",
            f"  {_plan_sentence(task)}",
        ]
        faster = {kind: costs for kind, costs in task.below_law.items() if costs}
        lines += [
            f"  faster than the law: {kind} at c = {', '.join(f'{c:.2g}' for c in costs)}"
            for kind, costs in faster.items()
        ]
    lines += [f"{name}: left out. {reason}" for name, reason in analysis.refused.items()]
    for row in analysis.comparison.itertuples():
        lines.append(
            f"rule against {row.depth}: regret {row.rule:.3f} against {row.fixed:.3f} of the range,"
            f" difference {row.difference:+.3f} ({row.lower90:+.3f} to {row.upper90:+.3f})"
        )
    return lines


def _plan_sentence(task: TaskAnalysis) -> str:
    plan = task.plan
    if plan.cost == 0:
        return f"c* = 0 at {task.price_per_run:.3g} nats² per full run: {plan.reason}"
    low, high = plan.interval
    return (
        f"c* = {plan.cost:.3g} of a full run ({low:.3g} to {high:.3g}) at "
        f"{task.price_per_run:.3g} nats² a full run: {plan.reason}; a budget of one full run is "
        f"best spread over {task.breadth.n_probed} models, {task.breadth.cost:.3g} each"
    )


def _words(task: TaskAnalysis) -> dict[str, Any]:
    d = task.decomposition
    return {
        "support": d.support.sentence,
        "aicc": {shape: _number(value) for shape, value in d.support.aicc.items()},
        "regime_support": task.phase.support.tolist(),
        "share_intervals": task.phase.intervals.tolist(),
        "plan": task.plan.reason,
        "below_law": task.below_law,
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _number(value) if isinstance(value, float) else value for key, value in row.items()
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _log(
    analysis: Analysis,
    record: Mapping[str, Any],
    pictures: Mapping[str, Path],
    make_loggers: Mapping[str, MakeLogger],
) -> None:
    """One run: the settings as config, numbers by task, figures."""
    config = {"prehoc": record["settings"]}
    logger = Trackers.begin(make_loggers, "prehoc", config, "prehoc")
    try:
        for task in analysis.tasks:
            row = {key: value for key, value in task.row().items() if isinstance(value, float)}
            name = task.decomposition.task
            logger.log_metrics(
                {f"{name}/{key}": value for key, value in row.items() if math.isfinite(value)}
            )
        for name, path in pictures.items():
            logger.log_picture(f"prehoc/{name}", path)
    finally:
        logger.finish()
