"""The tables of the Rectified Scaling Law paper, measured beside published."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from lensllm.evaluation import evaluate
from lensllm.laws import RectifiedLaw, ScalingLaw, VanillaLaw, fit_laws
from lensllm.reports.tables import Table
from lensllm.selectors import (
    AcceptThenStop,
    LawExtrapolation,
    ModelSize,
    Selector,
    SubTuning,
    ZeroShot,
)
from lensllm.studies.papers.published import RSL, as_published, published, published_by_ratio
from lensllm.studies.papers.study import Study

_METRICS = {"pearson": "PearCorr", "relative_accuracy": "RelAcc"}
_CELLS = "Cells: measured (published); the CSV has a row per figure, with the difference."
_CELL = ["metric", "dataset", "budget_ratio"]
_ROUNDING = (
    "Measured figures are rounded as the published ones are (four decimals of the fraction, then "
    "percent) before the difference is taken."
)


def rsl_table1(study: Study) -> Table:
    """Table 1: AtS and the three simple selectors."""
    caption = (
        "Pearson correlation and relative accuracy in percent of AtS (k = 3, delta = 5) and the "
        f"simple selectors, every D <= D_full / ratio given. Published: {RSL}, Table 1. {_ROUNDING}"
    )
    return _selection_table(study, "rsl_table1", simple_selectors(), caption)


def rsl_table2(study: Study) -> Table:
    """Table 2: extrapolating laws."""
    selectors = [LawExtrapolation(RectifiedLaw()), LawExtrapolation(VanillaLaw()), AcceptThenStop()]
    caption = (
        "Pearson correlation and relative accuracy in percent of laws fitted to every D <= D_full "
        "/ ratio (squared log loss, the rectified law with D = 0) and of AtS. Published: "
        f"{RSL}, Tables 1 and 2, relative accuracy of the fits from the public results file; the "
        f"published vanilla fit has random starts and is one draw. {_ROUNDING}"
    )
    return _selection_table(study, "rsl_table2", selectors, caption)


def rsl_table3(study: Study) -> Table:
    """Table 3: RMSE on log loss of the laws fitted to all D > 0."""
    laws: dict[str, ScalingLaw] = {"rectified": RectifiedLaw(), "vanilla": VanillaLaw()}
    known = published("rsl_log_rmse").set_index(["law", "model"])
    rows = []
    for dataset in study.benchmark.datasets:
        wide = study.wide(dataset)
        wide = wide[[n for n in wide.columns if n > 0]]
        study.say(f"fits of all sizes on {dataset}")
        errors = {
            name: fit_laws(law, wide.columns.to_numpy(float), wide.to_numpy(), n_starts=16).rmse_log
            for name, law in laws.items()
        }
        for i, model in enumerate(wide.index):
            row: dict[str, object] = {"dataset": dataset, "model": model}
            for name in laws:
                there = (name, model) in known.index and dataset in known.columns
                value = float(known.loc[(name, model), dataset]) if there else math.nan
                row |= _triple(name, float(errors[name][i]), value)
            rows.append(row)
    frame = pd.DataFrame.from_records(rows)
    means = frame.groupby("dataset", sort=False).mean(numeric_only=True).reset_index()
    overall = frame.mean(numeric_only=True).to_frame().T
    parts = [frame, means.assign(model="mean"), overall.assign(dataset="all", model="mean")]
    frame = pd.concat(parts, ignore_index=True)
    caption = (
        "RMSE of log loss (RSL's RMSD) of the laws fitted to all D > 0, squared log loss, 16 "
        f"starts. Published: {RSL}, Table 3. {_CELLS}"
    )
    return Table("rsl_table3", caption, frame, printed=_by_model(frame, list(laws)))


def rsl_size_ablation(study: Study) -> Table:
    """The selectors of Table 1 with the candidates restricted to small models."""
    known = published_by_ratio("rsl_size_ablation")
    selectors = simple_selectors()
    parts = []
    for size in sorted(known["size_below"].unique(), reverse=True):
        found = evaluate(
            study.below(float(size)), selectors, study.budget_ratios, progress=study.progress
        )
        parts.append(_long(found.scores).assign(size_below=int(size)))
    keys = ["size_below", *_CELL, "selector"]
    frame = _compare(pd.concat(parts), known, keys, decimals=2)
    caption = (
        "Selectors of Table 1 in percent, candidates with fewer than `size_below` parameters. "
        f"Published: {RSL}, public results file. {_ROUNDING}"
    )
    wide = _widen(frame, ["size_below", *_CELL], [s.name for s in selectors])
    return Table("rsl_size_ablation", caption, wide, _two_decimals(wide))


def rsl_k_delta(study: Study) -> Table:
    """AtS by k and delta."""
    known = published_by_ratio("rsl_k_delta")
    rows = []
    for k in (3, 4, 5):
        for delta in (1, 2, 3, 4, 5):
            selector = AcceptThenStop(k=k, delta=float(delta))
            for dataset in study.benchmark.datasets:
                for ratio in study.budget_ratios:
                    value = study.given(selector, dataset, ratio)["pearson"]
                    rows.append(
                        {"k": k, "delta": delta, "dataset": dataset, "budget_ratio": ratio}
                        | {"measured": value}
                    )
    frame = _compare(
        pd.DataFrame.from_records(rows), known, ["k", "delta", "dataset", "budget_ratio"], 2
    )
    caption = (
        "Pearson correlation of AtS in percent by k and delta. Published: "
        f"{RSL}, public results file of the ablation. {_ROUNDING}"
    )
    return Table("rsl_k_delta", caption, frame, _two_decimals(frame))


def simple_selectors() -> list[Selector]:
    """The selectors of RSL's Table 1."""
    return [AcceptThenStop(), ZeroShot(), SubTuning(), ModelSize()]


def _selection_table(study: Study, name: str, selectors: Sequence[Selector], caption: str) -> Table:
    """Measured, published and difference by selector: one row per metric, data set, ratio."""
    known = published_by_ratio("rsl_selection")
    long = _long(study.papers_scores(selectors))
    frame = _compare(long, known, [*_CELL, "selector"], decimals=1)
    names = [selector.name for selector in selectors]
    wide = _widen(frame, _CELL, names)
    return Table(name, f"{caption} {_CELLS}", wide, printed=_side_by_side(wide, names))


def _side_by_side(wide: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The layout of Tables 1 and 2: a row per data set and ratio, a column per metric, selector."""
    columns = {}
    for metric, label in _METRICS.items():
        part = wide[wide["metric"] == metric].set_index(["dataset", "budget_ratio"])
        for name in names:
            columns[f"{label} {name}"] = _beside(part[name], part[f"{name} published"], 1)
    table = pd.DataFrame(columns).reset_index().rename(columns={"budget_ratio": "ratio"})
    return table.assign(ratio=[f"1/{ratio}" for ratio in table["ratio"]])


def _by_model(frame: pd.DataFrame, laws: Sequence[str]) -> pd.DataFrame:
    """The layout of Table 3: a row per model, a column per data set and law."""
    columns = {}
    for dataset, part in frame[frame["dataset"] != "all"].groupby("dataset", sort=False):
        rows = part.set_index("model")
        for law in laws:
            columns[f"{dataset} {law}"] = _beside(rows[law], rows[f"{law} published"], 5)
    return pd.DataFrame(columns).rename_axis("model").reset_index()


def _beside(measured: pd.Series, known: pd.Series, decimals: int) -> pd.Series:
    """Cells with the measured figure and, in parentheses, the published one."""
    texts = [
        [f"{x:.{decimals}f}" if math.isfinite(x) else "–" for x in values]
        for values in (measured, known)
    ]
    cells = [f"{ours} ({theirs})" for ours, theirs in zip(*texts, strict=True)]
    return pd.Series(cells, index=measured.index)


def _long(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per metric: `metric`, `measured` as a fraction."""
    keys = ["dataset", "budget_ratio", "selector"]
    long = scores.melt(keys, list(_METRICS), var_name="metric", value_name="measured")
    return long.astype({"budget_ratio": int})


def _compare(
    measured: pd.DataFrame, known: pd.DataFrame, keys: list[str], decimals: int
) -> pd.DataFrame:
    """Measured and published figures in percent, with the difference."""
    frame = measured.merge(known, how="left", on=keys)
    frame["measured"] = [as_published(value, decimals) for value in frame["measured"]]
    # Some published figures have more decimals than the others of their table; + 0.0 drops "-0".
    known_rounded = frame["published"].round(decimals)
    frame["difference"] = (frame["measured"] - known_rounded).round(decimals) + 0.0
    return frame[[*keys, "measured", "published", "difference"]]


def _widen(frame: pd.DataFrame, keys: list[str], names: Sequence[str]) -> pd.DataFrame:
    """Three columns per selector."""
    parts = []
    for name in names:
        part = frame[frame["selector"] == name].set_index(keys)
        part = part[["measured", "published", "difference"]]
        part.columns = [name, f"{name} published", f"{name} difference"]
        parts.append(part)
    return pd.concat(parts, axis=1).reset_index()


def _triple(name: str, measured: float, known: float) -> dict[str, float]:
    return {name: measured, f"{name} published": known, f"{name} difference": measured - known}


def _two_decimals(frame: pd.DataFrame) -> dict[str, int]:
    return {str(c): 2 for c in frame.columns if pd.api.types.is_float_dtype(frame[c])}
