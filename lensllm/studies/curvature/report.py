"""Write a curvature analysis: tables, figures, JSON, and the experiment tracker."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lensllm.core.curves import read_curves
from lensllm.curvature.analysis import CurvatureAnalysis, transitions
from lensllm.finetune.trackers import MakeLogger, Trackers
from lensllm.studies.curvature.figures import save_figures
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact, write_csv


def read_curve(path: str | None, model: str, dataset: str) -> pd.DataFrame | None:
    """The measured curve of one candidate, to compare the theoretical transition with.

    Args:
        path: Curves in any layout that `lensllm.core.curves.read_curves` takes; `None` for none.
        model: Name of the candidate.
        dataset: Name of the data set.

    Returns:
        Its rows, or `None`.

    Raises:
        ValueError: There are no rows of this candidate and data set.
    """
    if path is None:
        return None
    table = read_curves(path)
    rows = table[(table["model"] == model) & (table["dataset"] == dataset)]
    if rows.empty:
        raise ValueError(f"Expected a curve of {model!r} on {dataset!r} in {path}, found none")
    return rows


def write_analysis(
    analysis: CurvatureAnalysis,
    folder: Path,
    curves: pd.DataFrame | None = None,
    make_loggers: Mapping[str, MakeLogger] | None = None,
) -> dict[str, Any]:
    """Write `curvature.json`, one CSV file per table and the figures, and log all of it.

    Args:
        analysis: What was found.
        folder: Where to write.
        curves: The candidate's measured curve, for the transitions.
        make_loggers: Makers of loggers of `lensllm.finetune.loggers` by name.

    Returns:
        What `curvature.json` holds.
    """
    record = analysis_record(analysis, curves)
    text = json.dumps(redact(record), indent=1, allow_nan=False)
    write_whole(folder / "curvature.json", text + "\n")
    for name, table in _tables(analysis).items():
        write_csv(table, folder / f"{name}.csv")
    figures = save_figures(analysis, folder)
    if make_loggers:
        _log(analysis, record, figures, make_loggers)
    return record


def analysis_record(analysis: CurvatureAnalysis, curves: pd.DataFrame | None) -> dict[str, Any]:
    """The summary in plain JSON types; numbers that are not finite become null."""
    curve, decay = analysis.curve, analysis.decay
    record: dict[str, Any] = {
        "model": analysis.model,
        "dataset": analysis.sizes[0].result.trial.dataset,
        "ntk": {
            "n_probe": curve.n_examples,
            "largest_eigenvalue": float(curve.eigenvalues[0]),
            "effective_rank": curve.effective_rank,
            "alignment": curve.alignment,
            "loss_zero": float(curve(0.0)),
            "learning_rate": curve.learning_rate,
            "flops": analysis.ntk_flops,
        },
        "sizes": analysis.size_table().to_dict("records"),
        "note": "terms of the bound; its remainder has an unknown constant, C is the largest loss "
        "observed: not a certified bound",
    }
    if decay is not None:
        record["decay"] = {
            "c2": decay.c2,
            "beta2": decay.beta2,
            "beta2_error": decay.beta2_error,
            "c3": decay.c3,
            "beta3": decay.beta3,
            "transition_size": decay.transition_size(),
        }
    if curves is not None:
        record["transitions"] = transitions(analysis, curves)
    return _plain(record)


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """A few lines for a reader."""
    ntk = record["ntk"]
    lines = [
        f"{record['model']} on {record['dataset']}: F(0) = {ntk['loss_zero']:.3g}, effective rank "
        f"{ntk['effective_rank']:.1f} of {ntk['n_probe']}, alignment {ntk['alignment']:.2f}"
    ]
    lines += [
        f"D = {row['n_samples']}: test loss {row['test_loss']:.4f}, (1 + eps) training loss "
        f"{row['empirical_term']:.4f}, Hessian term {row['hessian_term']:.4f}, n^(-3/4) "
        f"{row['rate_of_remainder']:.4f} (constant unknown), F(t) {row['ntk_loss']:.3g}"
        for row in record["sizes"]
    ]
    if "decay" in record:
        decay = record["decay"]
        error = "" if decay["beta2_error"] is None else f" +- {decay['beta2_error']:.2f}"
        lines.append(f"beta_2 = {decay['beta2']:.2f}{error}, beta_3 = {decay['beta3']:.2f}")
    if "transitions" in record:
        texts = {
            name: "none"
            if record["transitions"][name] is None
            else f"{record['transitions'][name]:.3g}"
            for name in ("rectified", "lensllm", "hessian")
        }
        lines.append("transition at D = " + ", ".join(f"{v} ({k})" for k, v in texts.items()))
    return lines


def _tables(analysis: CurvatureAnalysis) -> dict[str, pd.DataFrame]:
    """All tables by name."""
    return {
        "layers": analysis.layer_table(),
        "sizes": analysis.size_table(),
        "spectrum": analysis.spectrum_table(),
        "ntk_loss": analysis.loss_table(),
    }


def _log(
    analysis: CurvatureAnalysis,
    record: Mapping[str, Any],
    figures: Mapping[str, Path],
    make_loggers: Mapping[str, MakeLogger],
) -> None:
    label = f"curvature-{analysis.model}"
    logger = Trackers.begin(make_loggers, label, {"curvature": dict(record)}, "curvature")
    try:
        for row in record["sizes"]:
            numbers = {f"curvature/{k}": v for k, v in row.items() if isinstance(v, int | float)}
            logger.log_metrics(numbers, step=row["n_samples"])
        flat = {f"ntk/{name}": value for name, value in record["ntk"].items() if value is not None}
        logger.log_metrics(flat, step=record["sizes"][-1]["n_samples"])
        for name, path in figures.items():
            logger.log_picture(f"curvature/{name}", path)
        for name, table in _tables(analysis).items():
            logger.log_frame(f"curvature/{name}", table)
    finally:
        logger.finish()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value
