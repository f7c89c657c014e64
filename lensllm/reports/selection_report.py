"""The output of a campaign: `selection.json`, a figure, a table and one sentence."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from lensllm.core.evidence import Difference, Evidence
from lensllm.core.measures import LOSS, Measure
from lensllm.core.selection import Selection, Verdict
from lensllm.reports.campaign_figure import campaign_figure
from lensllm.reports.html_report import write_report
from lensllm.reports.selection_figure import selection_figure
from lensllm.reports.style import save
from lensllm.reports.words import decision_words, reason_words
from lensllm.system.atomic import StorageError, write_whole
from lensllm.system.harmless import redact, write_csv

logger = logging.getLogger(__name__)

_PACKAGES = ("lensllm", "torch", "transformers", "pytorch-lightning", "scipy", "numpy")
FORMAT_VERSION = 2  # of selection.json; the first, without events, had no number
MAX_NAMED = 6


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
        `n_samples`, `test_loss`, the measure's column if it is another one, `status`, `flops`.
    """
    losses = list(dict.fromkeys((LOSS.column, measure.column)))
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
        Keys `format`, `selector`, `dataset`, `n_samples_full`, `measure`, `selected`, `verdict`,
        `test_set`, `sentence`, `reason`, `ranking`, `cost_flops`, `cost_unit`, `cost_fraction`,
        `evaluation_share`, `events` (see `lensllm.core.events`), `decisions` (the same in words),
        `warnings`, `data_fingerprint`, `data`, `command`, `settings`,
        `versions`.
    """
    points = observed_points(curves, selection.measure)
    ranking = [
        {**_plain(asdict(entry)), "observed": points.get(entry.model, [])}
        for entry in selection.ranking
    ]
    return {
        "format": FORMAT_VERSION,
        "selector": selection.selector,
        "dataset": selection.dataset,
        "n_samples_full": selection.n_samples_full,
        "measure": selection.measure.name,
        "selected": selection.best.model,
        "verdict": _verdict_record(selection.verdict),
        "test_set": _evidence_record(selection.evidence),
        "sentence": selection_sentence(selection),
        "reason": reason_words(selection),
        "ranking": ranking,
        "cost_flops": selection.cost_flops,
        "cost_unit": selection.cost_unit,
        "cost_fraction": selection.cost_fraction,
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


def selection_sentence(selection: Selection) -> str:
    """One sentence: which model to fine-tune, how certain that is, and what it cost."""
    best = selection.best
    if best.status != "ranked":
        return f"No candidate could be ranked on {selection.dataset}: {best.status}."
    text = f"{_doubt(selection)}ine-tune {best.model} on {selection.dataset}"
    if math.isfinite(best.predicted_loss):
        text += f" (predicted {selection.measure.label} {best.predicted_loss:.3f} nats at D = "
        text += str(selection.n_samples_full)
        if math.isfinite(best.lower80):
            text += f", 80 % interval {best.lower80:.3f} to {best.upper80:.3f}"
        text += ")"
    if math.isfinite(best.p_best):
        text += f"; it is the best of {len(selection.ranking)} with probability {best.p_best:.2f}"
    else:
        text += f"; {selection.selector} gives no probability of being right"
    text += _evidence(selection.verdict)
    share = selection.evaluation_share
    spent = f", {share:.0%} of them for evaluation" if math.isfinite(share) else ""
    text = (
        f"{text}; found for {selection.cost_flops:.3g} {selection.cost_unit}{spent}, "
        f"{selection.cost_fraction:.1%} of fine-tuning every candidate in full."
    )
    return " ".join([text, *(f"Warning: {warning}." for warning in selection.warnings)])


def _doubt(selection: Selection) -> str:
    """The beginning of the sentence, with a caveat if the evidence is not sufficient."""
    verdict = selection.verdict
    if verdict is None or verdict.kind == "clear":
        return "F"
    if verdict.kind == "too_close_to_call":
        return f"Too close to call between {_listed(verdict.contenders)}: if one must be named, f"
    return f"Not enough evidence yet to tell {_listed(verdict.contenders)} apart: for now, f"


def _evidence(verdict: Verdict | None) -> str:
    """The expected regret of the choice, and the expected gain of the next trial."""
    if verdict is None or verdict.kind == "clear":
        return ""
    text = (
        f"; one of those {len(verdict.contenders)} is the best with probability "
        f"{verdict.p_contenders:.2f}, and this choice is expected to lose "
        f"{verdict.expected_regret:.2g} nats against it"
    )
    if verdict.next_trial is not None:
        model, n_samples = verdict.next_trial
        text += (
            f"; the next trial, {model} at D = {n_samples}, would cost "
            f"{verdict.next_cost_fraction:.1%} of full fine-tuning and save {verdict.next_gain:.2g}"
        )
    return text


def _listed(names: Sequence[str]) -> str:
    """a, b and c, or the first few of many."""
    if len(names) > MAX_NAMED:
        return f"{', '.join(names[: MAX_NAMED - 1])} and {len(names) - MAX_NAMED + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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
    """The ranking as a table for the terminal."""
    verdict = selection.verdict
    table = Table(
        title=f"{selection.selector} on {selection.dataset}",
        caption=None if verdict is None else f"verdict: {verdict.kind.replace('_', ' ')}",
    )
    held = set() if verdict is None else set(verdict.contenders)
    evidence = selection.evidence
    behind = {} if evidence is None else {item.model: item for item in evidence.differences}
    for name, justify in (
        ("", "right"),
        ("model", "left"),
        (f"loss at {selection.n_samples_full}", "right"),
        ("80 % interval", "right"),
        ("P(best)", "right"),
        ("largest D run", "right"),
        ("its loss", "right"),
        *((("behind the first, at D", "right"),) if behind else ()),
        ("status", "left"),
    ):
        table.add_column(name, justify=justify)
    points, column = observed_points(curves, selection.measure), selection.measure.column
    for place, entry in enumerate(selection.ranking, start=1):
        last = points.get(entry.model, [{"n_samples": None, column: None}])[-1]
        interval = _number(entry.lower80), _number(entry.upper80)
        table.add_row(
            str(place),
            entry.model,
            _number(entry.predicted_loss),
            "-" if "-" in interval else " to ".join(interval),
            _number(entry.p_best, 2),
            "-" if last["n_samples"] is None else str(last["n_samples"]),
            _number(last[column]),
            *([_behind(behind.get(entry.model))] if behind else []),
            "contender" if entry.model in held else entry.status,
        )
    return table


def write_selection(
    selection: Selection,
    curves: pd.DataFrame,
    folder: Path,
    settings: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    command: str = "",
) -> dict[str, Path]:
    """Write `selection.json`, `curves.csv`, `report.html` and, if there is a curve, `curves.png`.

    If the selector stopped candidates during the campaign, `campaign.png` shows which and when. If
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
    ranked = [entry.model for entry in selection.ranking]

    def write_table(path: Path) -> bool:
        write_csv(curves, path)
        return True

    def write_figure(path: Path) -> bool:
        return _save(selection_figure(selection, curves), path)

    def write_campaign(path: Path) -> bool:
        return _save(campaign_figure(selection.events, ranked), path)

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


def _behind(item: Difference | None) -> str:
    """A difference, its standard error over the same test examples, and the D of measurement."""
    if item is None:
        return "-"
    return f"{item.difference:.3f} ± {item.standard_error:.3f} at {item.n_samples} (z {item.z:.1f})"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with null instead of numbers that are not finite."""
    return {
        key: _finite(value) if isinstance(value, float) else value for key, value in values.items()
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
