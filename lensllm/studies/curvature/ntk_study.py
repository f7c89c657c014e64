"""Is the NTK term worth its place? Tables and a figure for one data set of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.evaluation import Benchmark, Evaluation, evaluate
from lensllm.evaluation.statistics import spearman_interval
from lensllm.laws import RectifiedLaw
from lensllm.reports.tables import Table
from lensllm.selectors import AcceptThenStop, LawExtrapolation, LensLLM, Selector
from lensllm.selectors.line import LogLogLine
from lensllm.studies.curvature.hessian_study import (
    Analyses,
    bound_table,
    layer_table,
)
from lensllm.studies.curvature.prediction import (
    compare_with_rectified,
    fitted_terms,
    validate_forward,
)

LABELS = {
    "rectified": "rectified law",
    "lensllm": "LensLLM, t fitted",
    "lensllm_start": "LensLLM, t = 0 (F at its cap)",
    "lensllm_phase": "LensLLM, t observed",
    "ats": "line of Accept then Stop",
}


@dataclass(frozen=True, eq=False)
class NTKStudy:
    """The recorded curves of one data set, and F(Θ, t) of its candidates.

    Attributes:
        benchmark: The recorded curves.
        dataset: Which data set.
        ntk: F of each candidate.
        gammas: γ of the sweep.
        taus: τ of the sweep.
        budget_ratio: D_full / D_max of the sweep.
        analyses: Hessian terms of the candidates, where there are some.
        command: The command that makes the tables, for their captions.
        say: Called with a line for every part.
    """

    benchmark: Benchmark
    dataset: str
    ntk: Mapping[str, NTKLoss]
    gammas: Sequence[int] = (3, 4, 5)
    taus: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0)
    budget_ratio: int = 4
    analyses: Analyses | None = None
    command: str = "lensllm study_ntk"
    say: Callable[[str], None] = lambda line: None

    @property
    def curves(self) -> pd.DataFrame:
        """The data set's curves, all seeds."""
        table = self.benchmark.curves
        return table[(table["dataset"] == self.dataset) & table["model"].isin(list(self.ntk))]

    @cached_property
    def terms(self) -> pd.DataFrame:
        """See `lensllm.studies.curvature.prediction.fitted_terms`."""
        self.say("fitting whole curves")
        return fitted_terms(self.curves, self.ntk)

    @cached_property
    def forward(self) -> pd.DataFrame:
        """Errors of laws and of the line beyond the sizes that they were given."""
        self.say("forward validation")
        return pd.concat([validate_forward(self.curves, self.ntk), line_forward(self.curves)])

    def tables(self) -> list[Table]:
        """All tables."""
        hessian = []
        if self.analyses and self.analyses.paths:
            hessian = [table(self.analyses, self.command) for table in (bound_table, layer_table)]
        return [
            self.term_table(),
            self.transition_table(),
            self.forward_table(),
            self.gamma_tau_table(),
            *hessian,
        ]

    def term_table(self) -> Table:
        """F beside D_l, by candidate."""
        by_model = self.terms.groupby("model")
        frame = by_model.mean(numeric_only=True)
        shown = {
            "F(0)": frame["ntk_zero"],
            "effective rank": frame["effective_rank"],
            "largest eigenvalue": [f"{value:.0f}" for value in frame["top_eigenvalue"]],
            "D_l (rectified)": frame["pre_learned_size"],
            "D_l 80 %": _ends(by_model, "pre_learned_size"),
            "F fitted": frame["lensllm_term"],
            "at its cap": [
                f"{k} of {n}" for k, n in by_model["capped"].agg(["sum", "size"]).to_numpy()
            ],
            "F observed": [f"{value:.0e}" for value in frame["ntk_observed"]],
        }
        caption = (
            f"{self.dataset}: F of the NTK beside D_l of the rectified law, fitted to all D with "
            "D = 0, means over seeds; intervals from the lowest to the highest end over seeds; "
            f"`at its cap`: seeds whose fitted F is F(0). {self._agreement()} "
            f"Command: {self.command}"
        )
        table = pd.DataFrame(shown, index=frame.index).reset_index()
        return Table(f"ntk_terms_{self.dataset}", caption, table)

    def transition_table(self) -> Table:
        """Where the power phase begins by each criterion, by candidate."""
        by_model = self.terms.groupby("model")
        frame = np.exp(
            np.log(self.terms.set_index("model")[["transition_size", "lensllm_transition_size"]])
            .groupby("model")
            .mean()
        )
        shown: dict[str, Any] = {
            "rectified": [f"{value:.2g}" for value in frame["transition_size"]],
            "its 80 %": _ends(by_model, "transition_size"),
            "LensLLM": [f"{value:.2g}" for value in frame["lensllm_transition_size"]],
        }
        if self.analyses and self.analyses.paths:
            decays = [self.analyses.decay(name) for name in frame.index]
            shown |= {
                "C_2": [_number(decay, "c2", ".2g") for decay in decays],
                "beta_2": [
                    f"{_number(decay, 'beta2', '.2f')} ± {_number(decay, 'beta2_error', '.2f')}"
                    for decay in decays
                ],
                "beta_3": [_number(decay, "beta3", ".2f") for decay in decays],
                "Hessian": [_number(decay, "transition_size", ".2g") for decay in decays],
            }
        largest = int(self.curves["n_samples"].max())
        caption = (
            f"{self.dataset}: size at the phase transition. Rectified law (D_l)^(1/beta), fitted "
            f"to D = 0 to {largest}, geometric mean over seeds, interval from the lowest to the "
            "highest end of the seeds' 80 % intervals; LensLLM law F^(1/beta), kappa = 1; Hessian: "
            "n where C_3 n^(-beta_3) overtakes n^(-3/4), from h <= C_2 n^(-beta_2). "
            f"Command: {self.command}"
        )
        table = pd.DataFrame(shown, index=frame.index).reset_index()
        return Table(f"ntk_transitions_{self.dataset}", caption, table)

    def _agreement(self) -> str:
        """How F(0), which nothing was fitted to, orders the candidates beside D_l."""
        means = self.terms.groupby("model")[["ntk_zero", "pre_learned_size"]].mean()
        rho = stats.spearmanr(means["ntk_zero"], means["pre_learned_size"]).statistic
        low, high = spearman_interval(means["ntk_zero"], means["pre_learned_size"])
        ratio = (means["pre_learned_size"] / means["ntk_zero"]).median()
        return (
            f"Spearman correlation of F(0) and D_l over the {len(means)} candidates {rho:.2f} "
            f"(80 % interval {low:.2f} to {high:.2f}), median of D_l / F(0) {ratio:.2f}."
        )

    def forward_table(self) -> Table:
        """RMSE beyond the sizes given, and its difference to the rectified law's."""
        found = compare_with_rectified(self.forward)
        found.insert(0, "law", [LABELS[name] for name in found.index])
        budgets = sorted(self.forward["max_n_samples"].unique())
        caption = (
            f"{self.dataset}: fitted to D <= {', '.join(map(str, budgets))}, compared with every "
            f"larger size, {self.forward['seed'].nunique()} seeds; RMSE on log loss, difference to "
            "the rectified law with its 80 % interval (bootstrap over candidates; below 0 is "
            f"better). Command: {self.command}"
        )
        order = [name for name in LABELS if name in found.index]
        digits = dict.fromkeys(("rmse_log", "difference", "lower80", "upper80"), 4)
        return Table(f"ntk_forward_{self.dataset}", caption, found.loc[order], digits)

    def gamma_tau_table(self) -> Table:
        """The selector by γ and τ, and selectors with the same points but without the NTK."""
        settings: dict[tuple[str, str], Selector] = {
            (f"{gamma}", f"{tau:g}"): LensLLM(self.ntk, gamma=gamma, tau=tau)
            for gamma in self.gammas
            for tau in self.taus
        }
        settings |= {
            ("rectified_fit", ""): LawExtrapolation(RectifiedLaw()),
            ("ats", ""): AcceptThenStop(),
        }
        rows = []
        for (gamma, tau), selector in settings.items():
            self.say(f"gamma {gamma} tau {tau}")
            found = evaluate(self.benchmark, [selector], [self.budget_ratio], (), [self.dataset])
            rows.append({"gamma": gamma, "tau": tau} | _mean_scores(found))
        caption = (
            f"{self.dataset}: D_max = D_full / {self.budget_ratio}, kappa = 1, t fitted; RMSE of "
            "the fits on log loss; means over "
            f"{len(self.benchmark.seeds(self.dataset))} seeds. Command: {self.command}"
        )
        digits = {"regret": 3, "rmse_log": 4, "pearson": 2, "cost": 3}
        return Table(f"ntk_gamma_tau_{self.dataset}", caption, pd.DataFrame(rows), digits)


def line_forward(curves: pd.DataFrame, min_sizes: int = 4) -> pd.DataFrame:
    """The line of Accept then Stop in place of a law; see `validate_forward` for the columns."""
    rows, selector = [], AcceptThenStop()
    for (dataset, model, seed), points in curves.groupby(["dataset", "model", "seed"], sort=False):
        points = points[np.isfinite(points["test_loss"]) & (points["n_samples"] > 0)]
        pairs = zip(points["n_samples"].astype(int), points["test_loss"], strict=True)
        seen = dict(sorted(pairs))
        sizes = tuple(seen)
        for budget in sizes[min_sizes - 1 : -1]:
            accepted = selector.walk(tuple(n for n in sizes if n <= budget), seen).accepted
            line = LogLogLine.fit(np.array(accepted, float), np.array([seen[n] for n in accepted]))
            rows += [
                {
                    "law": "ats",
                    "dataset": dataset,
                    "model": model,
                    "seed": seed,
                    "max_n_samples": budget,
                    "n_samples": n,
                    "log_error": line.log_loss(n) - np.log(seen[n]),
                }
                for n in sizes
                if n > budget
            ]
    return pd.DataFrame(rows)


def _ends(by_model: Any, name: str) -> list[str]:
    """From the lowest to the highest end over seeds, as text."""
    ends = zip(by_model[f"{name}_lower80"].min(), by_model[f"{name}_upper80"].max(), strict=True)
    return [f"{low:.2g} to {high:.2g}" for low, high in ends]


def _number(record: Mapping[str, Any], name: str, form: str) -> str:
    """A number as text, an en dash where there is none."""
    value = record.get(name)
    return "–" if value is None else format(value, form)


def _mean_scores(found: Evaluation) -> dict[str, object]:
    """Means over seeds, and what was chosen; the errors are those of the fits, which rank."""
    scores = found.scores
    squares = np.log(found.predictions["score"] / found.predictions["true_loss"]) ** 2
    return {
        "chosen": ", ".join(dict.fromkeys(scores["selected"])),
        "regret": scores["regret"].mean(),
        "rmse_log": np.sqrt(squares.groupby(found.predictions["seed"]).mean()).mean(),
        "pearson": scores["pearson"].mean(),
        "cost": scores["cost_fraction"].mean(),
    }
