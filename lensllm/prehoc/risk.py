"""The risk decomposition of a task: what static features predict, what probes, what nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lensllm.prehoc.bootstrap import cluster_draws
from lensllm.prehoc.law import RiskLaw, fit_risk_law
from lensllm.prehoc.predictors import Information, cross_validated_predictions
from lensllm.prehoc.runs import ProbedRuns, require_enough
from lensllm.prehoc.support import PowerSupport, power_support

LeaveOut = Literal["model", "task"]
UNPROBED: tuple[Information, ...] = ("mean", "static")
PROBED: tuple[Information, ...] = ("trace", "static_trace")


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Risk of predicting Y of one task, in nats².

    Attributes:
        task: Name of the task.
        leave_out: What was left out: the model, or the whole task.
        costs: Probe costs c, shares of the full run, shape (n_costs,).
        squared_errors: By information, shape (n_runs, n_costs) each.
        clusters: Model of each run, shape (n_runs,).
        best: Which predictor has the smallest risk over all costs: `trace` or `static_trace`.
        outcome_variance: Var(Y).
        seed_variance: Mean variance of Y over the seeds of one model.
        model_range: How far the worst model's mean Y is above the best one's, nats.
        static_risk: R(0), of the better of the static predictor and the mean.
        law: σ²_int + κ c^(−α), fitted to the best predictor.
        support: Whether the data support that power.
        shares: Bootstrap draws of (static, dynamic, intrinsic) shares of Var(Y), the point estimate
            first, shape (1 + n_draws, 3); each row sums to 1.
        n_runs: Runs, `n_models` models and `n_seeds` seeds.
        n_models: See `n_runs`.
        n_seeds: See `n_runs`.
    """

    task: str
    leave_out: LeaveOut
    costs: np.ndarray
    squared_errors: dict[Information, np.ndarray]
    clusters: np.ndarray
    best: Information
    outcome_variance: float
    seed_variance: float
    model_range: float
    static_risk: float
    law: RiskLaw
    support: PowerSupport
    shares: np.ndarray
    n_runs: int
    n_models: int
    n_seeds: int

    def risk(self, information: Information) -> np.ndarray:
        """R(c) of one predictor, shape (n_costs,)."""
        return self.squared_errors[information].mean(0)

    def interval(
        self, information: Information, level: float = 0.9, n_draws: int = 400
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bootstrap band of that R(c) over models."""
        rng = np.random.default_rng(0)
        drawn = cluster_draws(self.squared_errors[information], self.clusters, n_draws, rng)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def decompose(
    runs: ProbedRuns,
    task: str,
    *,
    leave_out: LeaveOut = "model",
    level: float = 0.9,
    n_draws: int = 400,
    seed: int = 0,
) -> Decomposition:
    """Estimate R(0), R(c) and σ²_int + κ c^(−α) for one task.

    Args:
        runs: Runs of all tasks; the others are used only when the task is left out.
        task: The task.
        leave_out: `model`: predict each model from the others on the same task. `task`: predict
            from the other tasks alone, which is what a new task allows.
        level: Level of intervals.
        n_draws: Bootstrap draws, over models.
        seed: Seed of the bootstrap.

    Returns:
        The decomposition.

    Raises:
        ValueError: There are too few runs, models, seeds, probes or tasks, or all outcomes are
            the same; the message says what is missing.
    """
    own = runs.task(task)
    require_enough(own, repr(task))
    if leave_out == "task" and len(runs.task_names) < 3:
        raise ValueError(
            f"Expected at least 3 tasks to leave one out, got {', '.join(runs.task_names)}: run "
            "the candidates on more data sets"
        )
    pool, groups = (own, own.models) if leave_out == "model" else (runs, runs.tasks)
    rows = pool.tasks == task
    errors = {
        kind: (cross_validated_predictions(pool, kind, groups)[rows] - own.outcomes[:, None]) ** 2
        for kind in UNPROBED + PROBED
    }
    static = min(UNPROBED, key=lambda kind: errors[kind][:, 0].mean())
    best = min(PROBED, key=lambda kind: np.log(errors[kind].mean(0)).mean())
    static_risk = float(errors[static][:, 0].mean())
    law = fit_risk_law(own.costs, errors[best], own.models, static_risk, n_draws, seed)
    return Decomposition(
        task=task,
        leave_out=leave_out,
        costs=own.costs,
        squared_errors=errors,
        clusters=own.models,
        best=best,
        outcome_variance=float(np.var(own.outcomes)),
        seed_variance=seed_variance(own),
        model_range=model_range(own),
        static_risk=static_risk,
        law=law,
        support=power_support(own.costs, errors[best], own.models, level, n_draws, seed),
        shares=_shares(own, errors[static][:, 0], law, n_draws, seed),
        n_runs=len(own),
        n_models=len(set(own.models)),
        n_seeds=len(set(own.seeds)),
    )


def seed_variance(runs: ProbedRuns) -> float:
    """Mean over models of the unbiased variance of Y over seeds, nats²; models with two or more."""
    spreads = [
        np.var(runs.outcomes[runs.models == model], ddof=1)
        for model in np.unique(runs.models)
        if (runs.models == model).sum() > 1
    ]
    return float(np.mean(spreads))


def model_range(runs: ProbedRuns) -> float:
    """Largest less smallest mean of Y over the seeds of one model, nats."""
    means = [runs.outcomes[runs.models == model].mean() for model in np.unique(runs.models)]
    return float(max(means) - min(means))


def _shares(
    runs: ProbedRuns, static_errors: np.ndarray, law: RiskLaw, n_draws: int, seed: int
) -> np.ndarray:
    """Shares of Var(Y) by draw: static 1 − R(0), dynamic R(0) − σ²_int, intrinsic σ²_int.

    A mean and a slope fitted to the m − 1 other models add about the share 2 / (m − 1) to R(0).
    Every second draw leaves this out, so that the spread covers R(0) with and without this cost.
    """
    rng = np.random.default_rng(seed)  # the same resamples as those of the law
    deviations = (runs.outcomes - runs.outcomes.mean()) ** 2
    table = np.stack([deviations, static_errors], axis=1)
    means = np.vstack([table.mean(0), cluster_draws(table, runs.models, n_draws, rng)])
    variance, static_risk = np.maximum(means, 1e-300).T
    intrinsic = np.concatenate([[law.intrinsic], law.draws[:, 0]])
    ratio = static_risk / variance
    ratio[1::2] /= 1 + 2 / max(len(set(runs.models)) - 1, 1)
    risk = np.clip(ratio, 0.0, 1.0)
    floor = np.minimum(intrinsic / variance, risk)
    return np.stack([1 - risk, risk - floor, floor], axis=1)
