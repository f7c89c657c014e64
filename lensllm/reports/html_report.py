"""The report of a campaign: one HTML page that needs nothing else, no network either."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lensllm import __version__
from lensllm.core.data_needs import DataNeeds
from lensllm.reports import quantities, report_charts
from lensllm.reports.curves_figure import CurvePlot
from lensllm.reports.data_words import classes_words, data_words
from lensllm.reports.leaderboard import largest_measured
from lensllm.reports.report_data import Campaign, known_points, not_tried, steps
from lensllm.reports.selection_figure import MIN_FIT_POINTS, candidate_plots
from lensllm.reports.style import PALETTE
from lensllm.reports.words import VERDICTS
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import plain

MULTIPLES = (1, 2, 4)  # of D_full, at which the laws say what more data would bring


def write_report(folder: Path, path: Path | None = None) -> Path:
    """Write the report of a campaign.

    Args:
        folder: Folder of the campaign, with `selection.json` and, where it was kept, `curves.csv`.
        path: The page; `report.html` in the folder by default.

    Returns:
        The page.

    Raises:
        FileNotFoundError: The folder has no `selection.json`.
        ValueError: That is not the result of a campaign.
        StorageError: The page cannot be written.
    """
    path = folder / "report.html" if path is None else path
    write_whole(path, render(Campaign.read(folder)))
    return path


def render(campaign: Campaign) -> str:
    """The page as text. All texts are escaped, and their control characters are spelt out."""
    environment = Environment(
        loader=PackageLoader("lensllm.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.filters |= {
        name: getattr(quantities, name)
        for name in ("count", "size", "duration", "saving", "share", "value", "thousands")
    }
    names = [entry.model for entry in campaign.ranking]
    environment.filters["isolated"] = lambda text: _isolated(text, names)
    return environment.get_template("report.html").render(**_content(campaign))


def _isolated(text: str, names: Sequence[str]) -> Markup:
    """A sentence as markup: commands between backticks are code, and names stand by themselves.

    So names in another writing direction leave the words around them alone.
    """
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return Markup("").join(_marked(part, names) for part in re.split(f"({pattern}|`[^`]+`)", text))


def _marked(part: str, names: Sequence[str]) -> str:
    """A name, a command, or the text between them."""
    if part in names:
        return Markup("<bdi>{}</bdi>").format(plain(part))
    if re.fullmatch("`[^`]+`", part):
        return Markup("<code>{}</code>").format(plain(part[1:-1]))
    return _unbroken(plain(part))


def _unbroken(text: str) -> str:
    """A text whose numbers stay on one line with their percent signs."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _content(campaign: Campaign) -> dict[str, Any]:
    """What the template shows."""
    record, curves = campaign.record, campaign.curves
    plots = candidate_plots(campaign.ranking, curves, campaign.measure, campaign.n_samples_full)
    front, told = report_charts.in_front(campaign, plots), steps(campaign)
    rows = [_row(campaign, place) for place in range(len(campaign.ranking))]
    absent = [name for name in _SOMETIMES if not any(_is_known(row[name]) for row in rows)]
    return {
        "record": record,
        "measure": campaign.measure,
        "best": campaign.best,
        "verdict": VERDICTS.get(campaign.verdict.get("kind", ""), ""),
        "verdict_kind": campaign.verdict.get("kind", "none"),
        "contenders": campaign.contenders,
        "full": campaign.n_samples_full,
        "seconds": record["cost_seconds"] or curves["seconds"].sum(),
        "n_trials": sum(bool(step.model) for step in told) or int((curves["n_samples"] >= 0).sum()),
        "n_known": known_points(campaign),
        "rows": rows,
        "absent": absent,
        "absent_words": ", ".join(_SOMETIMES[name] for name in absent),
        "colors": {model: place for place, model in enumerate(front)},
        "palette": PALETTE,
        "wide": plots and report_charts.all_curves(campaign, plots, report_charts.WIDE),
        "narrow": plots and report_charts.all_curves(campaign, plots, report_charts.NARROW),
        "cards": {
            model: report_charts.one_curve(campaign, model, plot, f"one{place}")
            for place, (model, plot) in enumerate(plots.items())
        },
        "laws": {model: _law(plot) for model, plot in plots.items() if plot.fits},
        "points": {row["model"]: _points(campaign, row["model"]) for row in rows},
        "steps": told,
        "spending": report_charts.spending(campaign, told, front),
        "not_tried": not_tried(campaign),
        "more": [_more(model, plots[model]) for model in front],
        "needs": [data_words(DataNeeds.from_json(item)) for item in record["data_needs"]],
        "min_fit_points": MIN_FIT_POINTS,
        "multiples": MULTIPLES,
        "classes": classes_words(known) if (known := record["data"].get("classes")) else "",
        "next": _next_trial(campaign),
        "cuts": _cuts(campaign),
        "settings": yaml.safe_dump(
            dict(record["settings"]), allow_unicode=True, sort_keys=False, width=88
        ),
        "version": __version__,
        "finished": _finished(curves),
        "isfinite": math.isfinite,
    }


# Columns of the leaderboard that not every campaign can fill.
_SOMETIMES = {
    "per_byte": "loss per byte",
    "n_params": "parameters",
    "memory": "memory",
    "latency": "latency",
    "seconds": "time",
    "cost": "cost",
    "licence": "licence",
}


def _finished(curves: pd.DataFrame) -> str:
    """When the last trial finished; empty if unknown."""
    if "finished_at" not in curves:
        return ""
    return max((str(time) for time in curves["finished_at"].dropna()), default="")


def _is_known(value: Any) -> bool:
    return bool(value) and (isinstance(value, str) or math.isfinite(value))


def _row(campaign: Campaign, place: int) -> dict[str, Any]:
    """One row of the leaderboard, from a campaign's files."""
    entry, said = campaign.ranking[place], campaign.record["ranking"][place]
    points = campaign.points(entry.model)
    column = campaign.measure.column
    usable = points[np.isfinite(points[column])]
    is_full = usable["n_samples"] == campaign.n_samples_full
    largest = largest_measured(points, column)
    memory = said.get("memory_gb")
    return {
        "place": place + 1,
        "model": entry.model,
        "entry": entry,
        "pareto": bool(said.get("pareto")),
        "status": "contender" if entry.model in campaign.contenders else entry.status,
        "n_points": len(usable),
        "has_full": bool(is_full.any()),
        "full": float(usable.loc[is_full, column].mean()),
        "largest": largest["n_samples"],
        "loss": largest[column],
        "per_byte": largest["test_loss_per_byte"],
        "n_params": said.get("n_params") or _most(points["n_params"]),
        "memory": _most(points["peak_memory_bytes"]) if memory is None else 1e9 * memory,
        "latency": said.get("latency_ms") or math.nan,
        "seconds": points["seconds"].sum(),
        "cost": points["flops"].sum(),
        "licence": str(said.get("licence") or ""),
    }


def _most(values: pd.Series) -> float:
    """The largest value; `nan` if none is known."""
    return float(values.max()) if (values > 0).any() else math.nan


def _points(campaign: Campaign, model: str) -> list[dict[str, Any]]:
    """What was measured of one candidate, by ascending size."""
    return [
        {
            "n_samples": row["n_samples"],
            "value": row[campaign.measure.column],
            "cost": row["flops"],
            "seconds": row["seconds"],
            "status": row["status"],
        }
        for row in campaign.points(model).to_dict("records")
    ]


def _law(plot: CurvePlot) -> dict[str, Any]:
    """The law that was fitted to a curve."""
    (fit,) = plot.fits
    return {"name": fit.law.name, "rmse_log": fit.rmse_log, "transition": fit.transition_size}


def _more(model: str, plot: CurvePlot) -> dict[str, Any]:
    """What the law predicts at multiples of D_full."""
    full = plot.n_samples_full or float(plot.n_samples.max())
    values = []
    for fit in plot.fits:
        sizes = full * np.array(MULTIPLES, dtype=float)
        low, median, high = fit.posterior.band(sizes, plot.level)
        values = list(zip(median, low, high, strict=True))
    return {"model": model, "values": values, "n_points": int((plot.n_samples > 0).sum())}


def _next_trial(campaign: Campaign) -> Mapping[str, Any] | None:
    """The next trial; `None` if it is not expected to save anything measurable."""
    gain = campaign.verdict.get("next_gain")
    is_worth = gain is not None and gain >= quantities.MEASURABLE
    return campaign.verdict.get("next_trial") if is_worth else None


def _cuts(campaign: Campaign) -> list[Mapping[str, Any]]:
    """How many texts were cut to the limits of length, of each candidate's largest trial."""
    names = ["model", "n_samples", "cut_inputs", "cut_targets", "dropped_pairs"]
    largest = campaign.curves.sort_values("n_samples").groupby("model").tail(1)
    found = largest[names].dropna()
    return found[found[names[2:]].sum(axis=1) > 0].to_dict("records")
