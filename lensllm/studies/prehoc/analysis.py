"""The whole analysis of a set of runs: decomposition, depth, regime and stopping rule by task."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.prehoc.phases import Phase, locate
from lensllm.prehoc.predictors import Information
from lensllm.prehoc.probing import BreadthPlan, Price, ProbePlan, depth_and_breadth, optimal_probe
from lensllm.prehoc.risk import PROBED, Decomposition, LeaveOut, decompose
from lensllm.prehoc.runs import ProbedRuns
from lensllm.studies.prehoc.race import FIXED_DEPTHS, compare_depths, compare_with_hindsight

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TaskAnalysis:
    """What was found for one task.

    Attributes:
        decomposition: Risk by information, and the fitted law.
        phase: Place in the phase diagram.
        price_per_run: λ in nats² per full run.
        plan: c* for that price.
        breadth: Depth against breadth for a budget of one full run over all models.
        below_law: For each predictor, the costs at which its whole interval lies below that of the
            law: where it would fall faster than the bound.
    """

    decomposition: Decomposition
    phase: Phase
    price_per_run: float
    plan: ProbePlan
    breadth: BreadthPlan
    below_law: dict[Information, list[float]]

    def row(self) -> dict[str, Any]:
        """One row of the table of tasks."""
        d, law = self.decomposition, self.decomposition.law
        intervals = {name: law.interval(name) for name in ("intrinsic", "scale", "decay")}
        return {
            "task": d.task,
            "leave_out": d.leave_out,
            "n_runs": d.n_runs,
            "n_models": d.n_models,
            "n_seeds": d.n_seeds,
            "outcome_sd": d.outcome_variance**0.5,
            "seed_sd": d.seed_variance**0.5,
            "model_range": d.model_range,
            "static_risk": d.static_risk,
            "best_predictor": d.best,
            **{
                key: value
                for name, (low, high) in intervals.items()
                for key, value in (
                    (name, getattr(law, name)),
                    (f"{name}_lower", low),
                    (f"{name}_upper", high),
                )
            },
            "shape": d.support.verdict,
            "share_power": d.support.share_power,
            **dict(
                zip(("static_share", "dynamic_share", "intrinsic_share"), d.shares[0], strict=True)
            ),
            "regime": self.phase.regime,
            "verdict": self.phase.verdict,
            "price_per_run": self.price_per_run,
            "optimal_cost": self.plan.cost,
            "optimal_cost_lower": self.plan.interval[0],
            "optimal_cost_upper": self.plan.interval[1],
            "risk_at_optimum": self.plan.risk,
            "breadth": self.breadth.n_probed,
            "costs_below_law": sum(map(len, self.below_law.values())),
        }


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found for all tasks.

    Attributes:
        runs: The runs.
        tasks: By task.
        refused: Tasks that could not be analysed, and why.
        depths: Rule and fixed depths by task and seed; empty where there are too few data.
        comparison: Rule minus fixed depths, with intervals; empty where `depths` is.
    """

    runs: ProbedRuns
    tasks: tuple[TaskAnalysis, ...]
    refused: dict[str, str] = field(default_factory=dict)
    depths: pd.DataFrame = field(default_factory=pd.DataFrame)
    comparison: pd.DataFrame = field(default_factory=pd.DataFrame)

    def table(self) -> pd.DataFrame:
        """One row per task."""
        return pd.DataFrame([task.row() for task in self.tasks])

    def risks(self) -> pd.DataFrame:
        """R(c) by task and information, with its interval: one row per cost."""
        frames = []
        for task in self.tasks:
            d = task.decomposition
            for kind in d.squared_errors:
                low, high = d.interval(kind)
                frames.append(
                    pd.DataFrame(
                        {
                            "task": d.task,
                            "information": kind,
                            "cost": d.costs,
                            "risk": d.risk(kind),
                            "lower90": low,
                            "upper90": high,
                            "law": d.law(d.costs),
                        }
                    )
                )
        return pd.concat(frames, ignore_index=True)


def analyze(
    runs: ProbedRuns,
    price: Price,
    leave_out: LeaveOut = "model",
    level: float = 0.9,
    n_draws: int = 400,
    n_candidates: int | None = None,
    seed: int = 0,
) -> Analysis:
    """Analyse every task of the runs.

    Args:
        runs: The runs.
        price: λ; a price in FLOPs, seconds or money is turned into one per full run with the mean
            full run of each task.
        leave_out: What a prediction is held out from: the `model` or the whole `task`.
        level: Level of intervals and verdicts.
        n_draws: Bootstrap draws.
        n_candidates: Size of the subsets of candidates in the comparison with fixed depths; all by
            default.
        seed: Seed of the bootstrap.

    Returns:
        The analysis. Tasks that are refused are named with the reason.

    Raises:
        ValueError: All tasks are refused.
    """
    found, refused = [], {}
    for name in runs.task_names:
        try:
            found.append(_analyze_task(runs, name, price, leave_out, level, n_draws, seed))
        except ValueError as error:
            refused[name] = str(error)
            logger.warning("Left out %s: %s", name, error)
    if not found:
        raise ValueError("; ".join(refused.values()))
    analysed = runs.select(~np.isin(runs.tasks, list(refused)))
    depths = comparison = pd.DataFrame()
    try:
        depths = compare_depths(analysed, FIXED_DEPTHS, n_candidates)
    except ValueError as error:
        logger.warning("Left out the comparison with fixed depths: %s", error)
    if not depths.empty:
        comparison = compare_with_hindsight(depths, seed=seed)
    return Analysis(runs, tuple(found), refused, depths, comparison)


def _analyze_task(
    runs: ProbedRuns,
    task: str,
    price: Price,
    leave_out: LeaveOut,
    level: float,
    n_draws: int,
    seed: int,
) -> TaskAnalysis:
    d = decompose(runs, task, leave_out=leave_out, level=level, n_draws=n_draws, seed=seed)
    own = runs.task(task)
    if price.unit != "share":
        price = replace(
            price, full_flops=float(own.flops.mean()), full_seconds=float(own.seconds.mean())
        )
    first = float(d.costs[0])
    return TaskAnalysis(
        d,
        locate(d, level),
        price.per_run,
        optimal_probe(d.law, price.per_run, min_cost=first, level=level),
        depth_and_breadth(d.law, 1.0, d.n_models, min_cost=first),
        {kind: costs_below_law(d, kind, level) for kind in PROBED},
    )


def costs_below_law(
    decomposition: Decomposition, information: Information, level: float = 0.9
) -> list[float]:
    """Costs at which a predictor's whole interval is below the law's: faster than the bound."""
    low, _ = decomposition.law.band(decomposition.costs, level)
    _, high = decomposition.interval(information, level)
    return [float(cost) for cost in decomposition.costs[np.flatnonzero(high < low)]]
