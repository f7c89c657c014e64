"""Hessian terms of many candidates side by side: from the output of a multirun of analyses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lensllm.curvature.bound import fit_hessian_decay
from lensllm.evaluation.statistics import spearman_interval
from lensllm.reports.style import line_style, new_figure, save, styled
from lensllm.reports.tables import Table
from lensllm.system.harmless import safe_name


@dataclass(frozen=True)
class Analyses:
    """What `lensllm curvature` found for candidates of one data set.

    Attributes:
        folder: Output folder of a multirun, with a `curvature.json` and a `layers.csv` in each of
            its subfolders.
        dataset: Name of the data set; others are left out.

    Raises:
        FileNotFoundError: There is no analysis below the folder.
    """

    folder: Path
    dataset: str

    def __post_init__(self) -> None:
        if not any(self.folder.rglob("curvature.json")):
            raise FileNotFoundError(
                f"Expected curvature.json files below {self.folder}, found none: run "
                "lensllm curvature experiment=curvature_zoo first"
            )

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Folder of each candidate."""
        found = {}
        for path in sorted(self.folder.rglob("curvature.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["dataset"] == self.dataset:
                found[record["model"]] = path.parent
        return found

    def decay(self, model: str) -> dict[str, Any]:
        """`decay` of one candidate's `curvature.json`; empty where there is none."""
        if model not in self.paths:
            return {}
        record = json.loads((self.paths[model] / "curvature.json").read_text(encoding="utf-8"))
        return record.get("decay", {})

    @cached_property
    def layers(self) -> pd.DataFrame:
        """All rows of `layers.csv`, see `CurvatureAnalysis.layer_table`."""
        return pd.concat([pd.read_csv(p / "layers.csv") for p in self.paths.values()])

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """All rows of `sizes.csv`, see `CurvatureAnalysis.size_table`."""
        return pd.concat([pd.read_csv(p / "sizes.csv") for p in self.paths.values()])


def layer_table(analyses: Analyses, command: str) -> Table:
    """h_i by layer and size, with the jackknife error of the maximum over the sample."""
    rows = analyses.layers.assign(
        text=[
            f"{value:.2g} ± {error:.1g}"
            for value, error in zip(
                analyses.layers["hessian_max"], analyses.layers["hessian_max_error"], strict=True
            )
        ]
    )
    keys = ["model", "layer"]
    frame = rows.pivot_table(index=keys, columns="n_samples", values="text", aggfunc="first")
    frame.columns = [f"h at D = {n}" for n in frame.columns]
    caption = (
        f"{analyses.dataset}: h_i, the largest v_i' H_i+ v_i of a sample of test examples, by "
        f"layer and D, with the jackknife standard error of the maximum. Command: {command}"
    )
    return Table(f"hessian_layers_{analyses.dataset}", caption, frame.reset_index())


def bound_table(analyses: Analyses, command: str) -> Table:
    """The terms of the bound beside the test loss, and how h changes with D."""
    rows = []
    for model, layers in analyses.layers.groupby("model"):
        sizes = analyses.sizes[analyses.sizes["model"] == model].sort_values("n_samples")
        last, decay = sizes.iloc[-1], analyses.decay(str(model))
        largest = layers.groupby("n_samples")["hessian_max"].max()
        rows.append(
            {
                "model": model,
                **{f"largest h, D = {n}": f"{value:.2g}" for n, value in largest.items()},
                "beta_2": decay.get("beta2", np.nan),
                "its error": decay.get("beta2_error", np.nan),
                "beta_2 of h / |v|^2": _beta_of_unit_moves(layers),
                "test loss": last["test_loss"],
                "(1 + eps) training loss": last["empirical_term"],
                "Hessian term": last["hessian_term"],
            }
        )
    caption = (
        f"{analyses.dataset}: largest h over layers by D, its decay beta_2 (h <= C_2 n^(-beta_2)) "
        "and that of h per squared distance moved; terms of the bound (not a certified bound) and "
        f"test loss at the largest D, nats per target token. {gap_correlations(analyses.sizes)} "
        f"Command: {command}"
    )
    digits = dict.fromkeys(["beta_2", "its error", "beta_2 of h / |v|^2"], 2)
    digits |= dict.fromkeys(["test loss", "(1 + eps) training loss", "Hessian term"], 2)
    return Table(f"hessian_bound_{analyses.dataset}", caption, pd.DataFrame(rows), digits)


def gap_correlations(sizes: pd.DataFrame) -> str:
    """How the Hessian term orders the candidates beside test minus training loss, by D."""
    texts = []
    for n, rows in sizes.groupby("n_samples"):
        gap = rows["test_loss"] - rows["training_loss"]
        if len(rows) > 2:
            rho = spearmanr(rows["hessian_term"], gap).statistic
            low, high = spearman_interval(rows["hessian_term"], gap)
            texts.append(f"{rho:.2f} [{low:.2f}, {high:.2f}] at D = {n}")
    if not texts:
        return "Too few candidates for a correlation with the gap."
    return (
        "Spearman correlation of the Hessian term with test minus training loss over the "
        f"candidates, 80 % intervals: {', '.join(texts)}."
    )


def _beta_of_unit_moves(layers: pd.DataFrame) -> float:
    """β_2 of the largest v'H⁺v / ‖v‖², the curvature along the move; `nan` for one size."""
    unit = layers.assign(unit=layers["hessian_max"] / layers["distance"] ** 2)
    table = unit.pivot_table(index="n_samples", columns="layer", values="unit")
    if len(table) < 2:
        return float("nan")
    return fit_hessian_decay(table.index.to_numpy(), table.to_numpy().tolist(), 1.0).beta2


@styled
def save_hessian_figure(analyses: Analyses, folder: Path) -> Path:
    """Draw h_i by layer and size, one panel per candidate.

    Args:
        analyses: What was found.
        folder: Where the PNG file goes.

    Returns:
        Its path.
    """
    groups = list(analyses.layers.groupby("model"))
    n_columns = min(4, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = new_figure(3.2 * n_columns, 2.7 * n_rows)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flat
    for axes, (model, rows) in zip(panels, groups, strict=False):
        for i, (layer, part) in enumerate(rows.groupby("layer", sort=False)):
            axes.errorbar(
                part["n_samples"],
                part["hessian_max"],
                yerr=np.minimum(part["hessian_max_error"], 0.9 * part["hessian_max"]),
                **{**line_style(i), "markersize": 3, "linewidth": 1},
                label=str(layer).removeprefix("model.").replace("transformer.", ""),
            )
        axes.set(xscale="log", yscale="log", title=model)
        axes.set_xticks(sorted(set(rows["n_samples"])), sorted(set(rows["n_samples"])))
        axes.minorticks_off()
        axes.legend(fontsize=5)
    for axes in list(panels):
        axes.set_visible(False)
    figure.supxlabel("D")
    figure.supylabel("h, largest of the sample")
    figure.suptitle(f"{analyses.dataset}: Hessian terms by layer (not a certified bound)")
    return save(figure, folder / f"hessian_study_{safe_name(analyses.dataset)}.png")
