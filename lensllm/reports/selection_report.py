"""The output of a campaign: `selection.json`, its files, and a table for the terminal."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from lensllm.core.evidence import Evidence
from lensllm.core.measures import LOSS, Measure
from lensllm.core.selection import Selection, Verdict
from lensllm.reports.answer import answer_of
from lensllm.reports.campaign_figure import campaign_figure
from lensllm.reports.html_report import write_report
from lensllm.reports.leaderboard import leaderboard, nearly_as_good, size_column
from lensllm.reports.selection_figure import selection_figure
from lensllm.reports.style import save
from lensllm.reports.words import decision_words, reason_words
from lensllm.system.atomic import StorageError, write_whole
from lensllm.system.harmless import redact, write_csv

logger = logging.getLogger(__name__)

_PACKAGES = ("lensllm", "torch", "transformers", "pytorch-lightning", "scipy", "numpy")
MEASURED = "†"  # marks values at D_full that were measured, not predicted
FORMAT_VERSION = 2  # of selection.json; the first, without events, had no number


def _versions() -> dict[str, str]:
    """Versions of the installed packages that affect results; a replay needs few of them."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def observed_points(
    curves: pd.DataFrame, measure: Measure = LOSS
) -> dict[str, list[dict[str, Any]]]:
    """Measured points by model, ascending by size.

    Returns:
        `n_samples`, `test_loss`, the measure's column if it is another one (with its standard error
        unless it is a loss), `status`, `flops`.
    """
    named = (LOSS.column, measure.column, *(() if measure.is_loss else (measure.error_column,)))
    losses = list(dict.fromkeys(named))
    curves = curves.reindex(columns=[*curves, *set(losses).difference(curves)])
    columns = ["n_samples", *losses, "status", "flops"]
    return {
        str(model): [
            {**row, **{name: _finite(row[name]) for name in losses}}
            for row in rows.sort_values("n_samples")[columns].to_dict("records")
        ]
        for model, rows in curves.groupby("model")
    }


def selection_record(
    selection: Selection,
    curves: pd.DataFrame,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    command: str = "",
) -> dict[str, Any]:
    """A complete selection as plain JSON types.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.
        settings: The resolved configuration.
        data: Summary of the data set, see `TextData`; empty for recorded curves.
        command: The command that repeats the campaign, if there is one.

    Returns:
        Keys `format`, `selector`, `dataset`, `n_samples_full`, `measure`, `direction` (whether
        `lower` or `higher` values are better), `bound` (the best possible value), `selected`,
        `verdict`, `test_set`, `sentence`, `notes` (see `Answer`), `reason`, `ranking`,
        `nearly_as_good`, `data_needs`, `cost_flops`, `cost_unit`, `cost_fraction`, `cost_seconds`,
        `cost_money`, `price_per_hour`, `currency`, `evaluation_share`, `events` (see
        `lensllm.core.events`), `decisions` (the same in words), `warnings`, `data_fingerprint`,
        `data`, `command`, `settings`, `versions`.
    """
    points = observed_points(curves, selection.measure)
    rows = leaderboard(selection, curves).set_index("candidate")
    ranking = [
        {
            **_plain(asdict(entry)),
            **_known(rows.loc[entry.model]),
            "family": selection.candidate(entry.model).family,
            "observed": points.get(entry.model, []),
        }
        for entry in selection.ranking
    ]
    smaller = nearly_as_good(selection, curves)
    answer = answer_of(selection, curves)
    return {
        "format": FORMAT_VERSION,
        "selector": selection.selector,
        "dataset": selection.dataset,
        "n_samples_full": selection.n_samples_full,
        "measure": selection.measure.name,
        "direction": selection.measure.direction,
        "bound": selection.measure.bound,
        "selected": selection.best.model,
        "verdict": _verdict_record(selection.verdict),
        "test_set": _evidence_record(selection.evidence),
        "sentence": answer.sentence,
        "notes": [{"label": label, "text": text} for label, text in answer.notes],
        "reason": reason_words(selection),
        "ranking": ranking,
        "nearly_as_good": None if smaller is None else asdict(smaller),
        "data_needs": [needs.to_json() for needs in selection.data_needs],
        "cost_flops": selection.cost_flops,
        "cost_unit": selection.cost_unit,
        "cost_fraction": selection.cost_fraction,
        "cost_seconds": _finite(selection.cost_seconds),
        "cost_money": _finite(selection.cost_money),
        "price_per_hour": _finite(selection.price_per_hour),
        "currency": selection.currency,
        "evaluation_share": _finite(selection.evaluation_share),
        "events": [event.to_json() for event in selection.events],
        "decisions": decision_words(selection),
        "warnings": list(selection.warnings),
        "data_fingerprint": data.get("fingerprint", ""),
        "data": dict(data),
        "command": command,
        "settings": dict(settings),
        "versions": _versions(),
    }


def _verdict_record(verdict: Verdict | None) -> dict[str, Any] | None:
    """The verdict as plain JSON types."""
    if verdict is None:
        return None
    record = _plain(asdict(verdict))
    trial = verdict.next_trial
    record["contenders"] = list(verdict.contenders)
    record["next_trial"] = None if trial is None else {"model": trial[0], "n_samples": trial[1]}
    return record


def _evidence_record(evidence: Evidence | None) -> dict[str, Any] | None:
    """The evidence of the test set as plain JSON types."""
    if evidence is None:
        return None
    differences = [_plain({**asdict(item), "z": item.z}) for item in evidence.differences]
    return {**_plain(asdict(evidence)), "differences": differences}


def selection_table(selection: Selection, curves: pd.DataFrame) -> Table:
    """The leaderboard as a table for the terminal; columns without a number are left out.

    A star marks candidates that no other one beats in both predicted loss and size (or latency).
    """
    verdict, rows = selection.verdict, leaderboard(selection, curves)
    what = "loss" if selection.measure.is_loss else selection.measure.label
    better = f"{'smaller' if selection.measure.direction == 'lower' else 'larger'} {what}"
    notes = [] if verdict is None else [f"verdict: {verdict.kind.replace('_', ' ')}"]
    if rows["pareto"].any():
        less = "latency" if size_column(rows) == "latency_ms" else "parameters"
        notes.append(f"* no other has a {better} without more {less}")
    if rows["full_loss"].notna().any():
        notes.append(f"{MEASURED} measured at {selection.n_samples_full}")
    title = f"{selection.selector} on {selection.dataset}"
    table = Table(title=title, caption="; ".join(notes) or None)
    several = rows["model"].duplicated().any()
    columns: list[tuple[str, str, Callable[[pd.Series], str]]] = [
        ("rank", "", lambda row: str(row["rank"])),
        ("candidate", "model", lambda row: f"{row['candidate']}{_star(row)}"),
        ("predicted_loss", f"{what} at {selection.n_samples_full}", _at_full),
        ("lower80", "80 % interval", _interval),
        ("p_best", "P(best)", _cell("p_best", 2)),
        *([("p_best_model", "of its model", _cell("p_best_model", 2))] if several else []),
        ("n_params", "parameters", lambda row: _count(row["n_params"])),
        ("memory_gb", "GB to run", lambda row: _two_digits(row["memory_gb"])),
        ("latency_ms", "latency, ms", _cell("latency_ms", 0)),
        ("largest_n_samples", "largest D measured", _cell("largest_n_samples", 0)),
        ("largest_loss", f"its {what}", _cell("largest_loss")),
        ("difference", "behind the first, at D", _behind),
        ("status", "status", lambda row: "contender" if row["contender"] else row["status"]),
    ]
    always = {"predicted_loss", "lower80", "p_best", "largest_n_samples", "largest_loss"}
    kept = [item for item in columns if item[0] in always or rows[item[0]].notna().any()]
    for name, header, _ in kept:
        justify: Literal["left", "right"] = "left" if name in ("candidate", "status") else "right"
        width = 10 if name == "status" else None
        table.add_column(
            header, justify=justify, no_wrap=name in ("candidate", "lower80"), min_width=width
        )
    for _, row in rows.iterrows():
        table.add_row(*(cell(row) for _, _, cell in kept))
    return table


def _cell(name: str, digits: int = 3) -> Callable[[pd.Series], str]:
    """What writes a number of a row."""
    return lambda row: _number(row[name], digits)


def _at_full(row: pd.Series) -> str:
    """What was measured at D_full, which is marked, or else what is predicted for it."""
    if math.isfinite(row["full_loss"]):
        return f"{_number(row['full_loss'])} {MEASURED}"
    return _number(row["predicted_loss"])


def _star(row: pd.Series) -> str:
    return " *" if row["pareto"] is not pd.NA and row["pareto"] else ""


def _interval(row: pd.Series) -> str:
    ends = _number(row["lower80"]), _number(row["upper80"])
    return "-" if "-" in ends else " to ".join(ends)


def _two_digits(number: float) -> str:
    return f"{number:.2g}" if math.isfinite(number) else "-"


def _count(number: float) -> str:
    """A number of parameters: 1.2B, 350M or 64.0K."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return _number(number, 0)


def write_selection(
    selection: Selection,
    curves: pd.DataFrame,
    folder: Path,
    settings: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    command: str = "",
) -> dict[str, Path]:
    """Write `selection.json`, `curves.csv`, `report.html`, and figures if there is a curve.

    `campaign.png` shows the campaign at a glance, `curves.png` each candidate; both are SVG too. If
    the folder cannot be written, everything goes into a new temporary folder, and a warning says
    where, so that no result is lost. A figure or report that cannot be made is left out.

    Args:
        selection: The answer.
        curves: Tidy table of the campaign's trials.
        folder: Output folder.
        settings: The resolved configuration.
        data: Summary of the data set.
        command: The command that repeats the campaign, if there is one.

    Returns:
        The paths of the files written, by kind.
    """
    record = selection_record(selection, curves, settings, data or {}, command)
    text = json.dumps(redact(record), indent=1, allow_nan=False) + "\n"
    try:
        write_whole(folder / "selection.json", text)
    except StorageError as error:
        folder = Path(tempfile.mkdtemp(prefix="lensllm-"))
        logger.warning("%s: what was found is in %s", error, folder)
        write_whole(folder / "selection.json", text)
    paths = {"selection": folder / "selection.json"}

    def write_table(path: Path) -> bool:
        write_csv(curves, path)
        return True

    def write_figure(path: Path) -> bool:
        return _save(selection_figure(selection, curves), path)

    def write_campaign(path: Path) -> bool:
        return _save(campaign_figure(selection, curves), path)

    def write_page(path: Path) -> bool:
        write_report(folder, path)
        return True

    for kind, name, write in (
        ("curves", "curves.csv", write_table),
        ("figure", "curves.png", write_figure),
        ("campaign", "campaign.png", write_campaign),
        ("report", "report.html", write_page),
    ):
        try:
            if write(folder / name):
                paths[kind] = folder / name
        except Exception as error:
            logger.warning("No %s (%s: %s)", folder / name, type(error).__name__, error)
    return paths


def _save(figure: Figure | None, path: Path) -> bool:
    """Write a figure if there is one; return whether there was."""
    if figure is not None:
        save(figure, path)
    return figure is not None


def _behind(row: pd.Series) -> str:
    """A difference, its standard error over the same test examples, and the D of measurement."""
    if not math.isfinite(row["difference"]):
        return "-"
    z = row["difference"] / row["difference_se"] if row["difference_se"] > 0 else math.nan
    return (
        f"{row['difference']:.3f} ± {row['difference_se']:.3f} at "
        f"{row['difference_n_samples']:.0f} (z {z:.1f})"
    )


def _known(row: pd.Series) -> dict[str, Any]:
    """What a leaderboard's row adds to an entry of the ranking, in JSON types."""
    numbers = {name: _finite(row[name]) for name in ("n_params", "memory_gb", "latency_ms")}
    pareto = None if row["pareto"] is pd.NA else bool(row["pareto"])
    return {"base_model": row["model"], **numbers, "pareto": pareto}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with null instead of numbers that are not finite."""
    return {
        key: _finite(value) if isinstance(value, float) else value for key, value in values.items()
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
