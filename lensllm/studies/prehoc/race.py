"""Replay of recorded probes: the stopping rule against fixed depths, at equal total cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lensllm.evaluation.statistics import paired_means
from lensllm.prehoc.law import RiskLaw, fit_risk_law
from lensllm.prehoc.runs import ProbedRuns
from lensllm.prehoc.standing import judge
from lensllm.prehoc.stopping import StopAdvice, StoppingRule

FIXED_DEPTHS = (0.01, 0.05, 0.10, 0.25)
NEAR = 1.4  # a recorded cost within this factor stands for a fixed depth


@dataclass(frozen=True)
class RaceResult:
    """What a probing strategy chose, and what it spent.

    Attributes:
        chosen: Position of the chosen candidate.
        spent: FLOPs.
        depths: Cost at which each candidate stopped, shares of its full run, shape (n_candidates,).
        decisions: Why each candidate stopped.
    """

    chosen: int
    spent: float
    depths: np.ndarray
    decisions: tuple[StopAdvice, ...]


def race(rule: StoppingRule, runs: ProbedRuns, budget_flops: float) -> RaceResult:
    """Probe all candidates level by level as the rule and the budget say, and take the best.

    Args:
        rule: The rule.
        runs: One run per candidate, of one task and seed.
        budget_flops: What all probes together may cost.

    Returns:
        The result; a budget below one level of all candidates probes as many as it pays for.
    """
    prices = runs.level_flops
    losses = np.full(runs.probes.shape, np.nan)
    decisions: dict[int, StopAdvice] = {}
    spent = 0.0
    while True:
        standing = judge(rule, runs.costs, losses, prices, budget_flops - spent)
        decisions |= standing.decisions
        if not standing.going_on:
            break
        rows, level = list(standing.going_on), standing.level
        losses[rows, level] = runs.probes[rows, level]
        spent += float(prices[rows, level].sum())
    depths = np.where(standing.reached >= 0, runs.costs[standing.reached], 0.0)
    probed = np.where(standing.reached >= 0, standing.losses, np.inf)
    reasons = tuple(decisions[i] for i in range(len(runs)))
    return RaceResult(int(np.argmin(probed)), spent, depths, reasons)


def fixed_depth(runs: ProbedRuns, depth: float) -> RaceResult:
    """Probe every candidate to the nearest recorded cost to `depth` (in log), and take the best."""
    k = int(np.argmin(np.abs(np.log(runs.costs / depth))))
    cost = float(runs.costs[k])
    stop = StopAdvice(True, "fixed", f"fixed depth {cost:.3g}")
    chosen = int(np.argmin(runs.probes[:, k]))
    n = len(runs)
    return RaceResult(chosen, cost * float(runs.flops.sum()), np.full(n, cost), (stop,) * n)


def relative_law(runs: ProbedRuns, seed: int = 0) -> RiskLaw:
    """R(c) in units of the spread of the candidates' losses at c, over tasks and seeds.

    The error is that of taking the latest loss for the final one, less the mean fall of all
    candidates of a task and seed. A stopping rule needs no more, and nothing of a new task.

    Args:
        runs: Runs of past tasks, at least three models of each task and seed.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: No task has three models with one seed.
    """
    blocks, clusters = [], []
    for cell in cells(runs):
        if len(cell) < 3:
            continue
        left = cell.outcomes[:, None] - cell.probes
        errors = left - left.mean(0)
        n = len(cell)
        blocks.append(errors**2 * n / (n - 1) / cell.probes.var(0))
        clusters.append(cell.models)
    if not blocks:
        raise ValueError("Expected three models of one task and seed to learn the rule from")
    return fit_risk_law(runs.costs, np.vstack(blocks), np.concatenate(clusters), seed=seed)


def cells(runs: ProbedRuns) -> list[ProbedRuns]:
    """The runs of each task and seed, in order."""
    return [
        runs.select((runs.tasks == task) & (runs.seeds == seed))
        for task in runs.task_names
        for seed in sorted(set(runs.seeds[runs.tasks == task]))
    ]


def regret(runs: ProbedRuns, chosen: int) -> tuple[float, float]:
    """Final loss of the chosen candidate less the best one, in nats and as share of the range."""
    best, worst = runs.outcomes.min(), runs.outcomes.max()
    lost = float(runs.outcomes[chosen] - best)
    return lost, lost / float(worst - best) if worst > best else 0.0


def compare_depths(
    runs: ProbedRuns,
    depths: Sequence[float] = FIXED_DEPTHS,
    n_candidates: int | None = None,
) -> pd.DataFrame:
    """Regret of the rule and of every fixed depth, at the fixed depth's total cost.

    The rule's law comes from the other tasks (with one task: from its other seeds).

    Args:
        runs: Runs of one or more tasks.
        depths: Fixed depths, shares of a full run; those with no recorded cost near are left out.
        n_candidates: Size of subsets of candidates, all of which are tried; by default one set of
            all candidates.

    Returns:
        One row per task, seed, depth and strategy (`rule` or `fixed`): regret in nats, regret as a
        share of the range of final losses, share of full fine-tuning spent; means over subsets.
        Empty where no depth was recorded.

    Raises:
        ValueError: There is neither a second task nor a second seed.
    """
    if len(runs.task_names) < 2 and len(set(runs.seeds)) < 2:
        raise ValueError("Expected a second task or seed to learn the rule from, got one of each")
    rows = []
    for cell in cells(runs):
        task, seed = cell.tasks[0], cell.seeds[0]
        other = runs.tasks != task if len(runs.task_names) > 1 else runs.seeds != seed
        past = runs.select(other)
        rule = StoppingRule(relative_law(past), n_tasks=len(past.task_names))
        size = min(n_candidates or len(cell), len(cell))
        for depth in recorded_depths(runs.costs, depths):
            played = [
                _play(rule, cell.select(np.array(subset)), depth)
                for subset in combinations(range(len(cell)), size)
            ]
            for way, values in zip(("fixed", "rule"), np.mean(played, axis=0), strict=True):
                names = ("regret", "regret_share", "spent")
                rows.append(
                    {"task": task, "seed": seed, "depth": depth, "way": way}
                    | dict(zip(names, map(float, values), strict=True))
                )
    return pd.DataFrame(rows)


def recorded_depths(costs: np.ndarray, depths: Sequence[float]) -> tuple[float, ...]:
    """The depths that have a recorded cost near them."""
    return tuple(d for d in depths if np.abs(np.log(costs / d)).min() <= np.log(NEAR))


def _play(rule: StoppingRule, runs: ProbedRuns, depth: float) -> list[tuple[float, ...]]:
    """(regret, its share, spent share) of the fixed depth and of the rule on the same budget."""
    fixed = fixed_depth(runs, depth)
    found = race(rule, runs, fixed.spent)
    total = float(runs.flops.sum())
    return [(*regret(runs, r.chosen), r.spent / total) for r in (fixed, found)]


def compare_with_hindsight(
    table: pd.DataFrame, column: str = "regret_share", n_draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Rule minus fixed depth by depth, and at the depth that was best on the other tasks.

    Args:
        table: What `compare_depths` returns.
        column: Which regret.
        n_draws: Bootstrap draws, over tasks and over seeds inside them.
        seed: Seed of the bootstrap.

    Returns:
        One row per depth and one for `hindsight`: mean of both, mean difference, 90 % interval.
    """
    wide = table.pivot_table(index=["task", "seed", "depth"], columns="way", values=column)
    rng = np.random.default_rng(seed)
    frames = {f"{depth:.0%}": wide.xs(depth, level="depth") for depth in table["depth"].unique()}
    if table["task"].nunique() > 1:
        chosen = []
        for task in table["task"].unique():
            fixed = wide["fixed"].drop(index=task, level="task").groupby("depth").mean()
            chosen.append(
                wide.xs((task, fixed.idxmin()), level=("task", "depth"), drop_level=False)
            )
        frames["hindsight"] = pd.concat(chosen).droplevel("depth")
    rows = []
    for name, frame in frames.items():
        ways = frame[["fixed", "rule"]]
        tasks = ways.index.get_level_values("task").to_numpy()
        found = paired_means(ways, "fixed", n_draws, rng, level=0.9, clusters=tasks)
        rule = found.loc["rule"]
        rows.append(
            {
                "depth": name,
                "fixed": found.loc["fixed", "mean"],
                "rule": rule["mean"],
                "difference": rule["difference"],
                "lower90": rule["difference_lower"],
                "upper90": rule["difference_upper"],
            }
        )
    return pd.DataFrame(rows)
