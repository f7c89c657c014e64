"""Table 8 of the LensLLM paper: learning rate by batch size, from the sweep's own trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.core.trials import TrialResult, TrialStore, results_table
from lensllm.evaluation import Benchmark
from lensllm.evaluation.judge import selection_metrics
from lensllm.reports.style import DIVERGING, SEQUENTIAL, new_figure, styled
from lensllm.reports.tables import Table
from lensllm.selectors import AcceptThenStop, SubTuning, ZeroShot, run_campaign
from lensllm.selectors.lensllm_stand_in import LensLLMStandIn
from lensllm.studies.papers.lensllm_tables import STAND_IN
from lensllm.studies.papers.published import LENSLLM, published
from lensllm.studies.papers.study import Study

Setting = tuple[int, float]
# Columns beside LensLLM's correlation, with their decimals.
_BESIDE = {"ats": 2, "sub_tuning": 2, "zero_shot": 2, "regret": 3, "loss at D_full": 3}


def lensllm_table8(study: Study) -> Table:
    """Pearson correlation by learning rate and batch size, measured beside published."""
    known = published("lensllm_table8").set_index("batch_size")
    theirs = {
        (int(batch), float(rate)): float(known.loc[batch, rate])
        for batch in known.index
        for rate in known.columns
    }
    cells = sweep_curves(study.trials) if study.trials else {}
    rows = []
    for setting in sorted(set(theirs) | set(cells)):
        study.say(f"batch size {setting[0]}, learning rate {setting[1]:g}")
        mine = judge_cell(cells[setting]) if setting in cells else {}
        measured, value = mine.get("lensllm_stand_in", math.nan), theirs.get(setting, math.nan)
        rows.append(
            {"batch size": setting[0], "learning rate": f"{setting[1]:g}"}
            | {"measured": measured, "published": value, "difference": measured - value}
            | {name: mine.get(name, math.nan) for name in _BESIDE}
            | {"best": best_model(cells[setting]) if setting in cells else None}
        )
    caption = (
        "Pearson correlation in percent between predicted and true loss at D_full over the "
        f"candidates. Measured: {_design(cells)}; LensLLM given every D < D_full (`measured`; "
        f"{STAND_IN.rstrip('.')}); AtS, sub-tuning and zero-shot beside it; LensLLM's regret, the "
        "mean test loss at D_full in nats, and the model that is best there. "
        f"Published: {LENSLLM}, Table 8, on FLAN with other models and sizes: the difference is "
        "one of design, not an error."
    )
    decimals = {"measured": 2, "published": 2, "difference": 2, **_BESIDE}
    return Table("lensllm_table8", caption, pd.DataFrame.from_records(rows), decimals)


def sweep_curves(folder: str) -> dict[Setting, pd.DataFrame]:
    """Curves of every (batch size, learning rate) that a folder of trials has.

    A trial at D = 0 has neither and belongs to all of them.

    Args:
        folder: A trial store.

    Returns:
        Tidy curves by setting, diverged trials left out.
    """
    zero: list[TrialResult] = []
    trained: dict[Setting, list[TrialResult]] = {}
    for result in TrialStore(folder).results():
        if math.isfinite(result.test_loss):
            setting = _setting(result.trial.settings)
            (zero if setting is None else trained.setdefault(setting, [])).append(result)
    return {key: results_table([*zero, *trained[key]]) for key in sorted(trained)}


def _setting(settings: Mapping[str, Any]) -> Setting | None:
    """Batch size and learning rate of a trial; `None` where it trained nothing."""
    rate = settings.get("optimizer", {}).get("lr")
    batch = settings.get("training", {}).get("batch_size")
    return None if rate is None or batch is None else (int(batch), float(rate))


def judge_cell(curves: pd.DataFrame) -> dict[str, float]:
    """Pearson correlation of each selector in percent, LensLLM's regret, the mean loss at D_full.

    Each selector is given every D below the largest. Means over data sets and seeds; a selector for
    which these sizes are too few has no value.
    """
    sizes = sorted(int(n) for n in curves["n_samples"].unique())
    full = curves[curves["n_samples"] == sizes[-1]]
    found: dict[str, list[float]] = {"loss at D_full": [float(full["test_loss"].mean())]}
    benchmark = Benchmark("sweep", curves)
    for dataset in benchmark.datasets:
        for seed in benchmark.seeds(dataset):
            runner = benchmark.runner(dataset, seed)
            for selector in (LensLLMStandIn(), AcceptThenStop(), SubTuning(), ZeroShot()):
                try:
                    selection, _ = run_campaign(selector, runner, Budget(max_n_samples=sizes[-2]))
                except BudgetTooSmallError:
                    continue
                metrics = selection_metrics(selection, runner.truth())
                found.setdefault(selector.name, []).append(100.0 * metrics["pearson"])
                if isinstance(selector, LensLLMStandIn):
                    found.setdefault("regret", []).append(metrics["regret"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def best_model(curves: pd.DataFrame) -> str:
    """The model with the smallest loss at the largest size, the mean over data sets and seeds."""
    full = curves[curves["n_samples"] == curves["n_samples"].max()]
    return str(full.groupby("model")["test_loss"].mean().idxmin())


def _design(cells: Mapping[Setting, pd.DataFrame]) -> str:
    """What was swept, in words."""
    if not cells:
        return "nothing yet, run `lensllm train experiment=lensllm_table8` first"
    curves = pd.concat(cells.values())
    sizes = ", ".join(str(n) for n in sorted(curves["n_samples"].unique()))
    seeds = curves["seed"].nunique()
    return (
        f"{curves['model'].nunique()} models ({', '.join(sorted(curves['model'].unique()))}), "
        f"{', '.join(sorted(curves['dataset'].unique()))}, D = {sizes}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


@styled
def draw_table8(table: Table) -> Figure | None:
    """Heat maps of measured and published correlations and of the mean loss; `None` unmeasured."""
    frame = table.frame
    if frame["measured"].isna().all():
        return None
    figure = new_figure(11.0, 2.8)
    titles = {
        "measured": "measured, Pearson correlation (%)",
        "published": "published, Pearson correlation (%)",
        "loss at D_full": "measured, mean test loss at D_full (nats)",
    }
    for axes, (column, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        _heat_map(axes, frame, column, title)
    return figure


def _heat_map(axes: Axes, frame: pd.DataFrame, column: str, title: str) -> None:
    """One column as a map, learning rate across, batch size down; correlations from -100 to 100."""
    wide = frame.pivot_table(index="batch size", columns="learning rate", values=column)
    wide = wide[sorted(wide.columns, key=float)]
    is_loss = column.startswith("loss")
    low, high = (None, None) if is_loss else (-100.0, 100.0)
    colors = SEQUENTIAL if is_loss else DIVERGING
    axes.imshow(wide.to_numpy(), aspect="auto", cmap=colors, vmin=low, vmax=high)
    axes.grid(visible=False)
    axes.set_xticks(range(wide.shape[1]), list(wide.columns))
    axes.set_yticks(range(wide.shape[0]), [str(batch) for batch in wide.index])
    axes.set(xlabel="learning rate", ylabel="batch size")
    axes.set_title(title, fontsize=9)
    values = wide.to_numpy()
    middle = float(np.nanmean(values))
    for (row, place), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = value < middle if is_loss else abs(value) > 75
            text = f"{value:.2f}" if is_loss else f"{value:.1f}"
            axes.text(
                place, row, text, ha="center", va="center", color="white" if dark else "black"
            )
