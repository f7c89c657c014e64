"""How well the estimators do on the synthetic process, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lensllm.prehoc.law import PARAMETERS, fit_risk_law
from lensllm.prehoc.phases import REGIMES, locate
from lensllm.prehoc.probing import optimal_probe
from lensllm.prehoc.process import SyntheticProcess
from lensllm.prehoc.risk import decompose
from lensllm.prehoc.support import power_support
from lensllm.system.progress import tracked


def recovery(
    process: SyntheticProcess,
    costs: np.ndarray,
    n_runs: Sequence[int],
    prices: Sequence[float],
    n_repetitions: int = 200,
    level: float = 0.9,
    n_draws: int = 400,
    progress: bool = False,
) -> pd.DataFrame:
    """Coverage of σ²_int, κ and α, and excess cost of the c* found, over repeated draws.

    The errors are those of the Bayes predictor, so that only the fit is judged.

    Args:
        process: The process.
        costs: Probe costs, shape (n_costs,).
        n_runs: Numbers of runs.
        prices: λ, nats² per full run.
        n_repetitions: Draws.
        level: Level of the intervals.
        n_draws: Bootstrap draws.
        progress: Whether to say how many draws are done.

    Returns:
        One row per number of runs: share of intervals that contain the truth and median estimate,
        by parameter; how often a power law was told from an exponential, mistaken for one, or
        mistaken for a constant; by price the median distance of c* from the true one, and the 90th
        percentile of the excess of R(c) + λ c over the true optimum, both as shares.
    """
    rows = []
    for n in n_runs:
        found = [
            _one(process, costs, n, prices, level, n_draws, r)
            for r in tracked(range(n_repetitions), f"draws of {n} runs", quiet=not progress)
        ]
        table = pd.DataFrame(found)
        row: dict[str, float] = {"n_runs": n, "n_repetitions": n_repetitions}
        for name in PARAMETERS:
            row[f"{name}_covered"] = table[f"{name}_covered"].mean()
            row[f"{name}_median"] = table[name].median()
        for verdict in ("power", "exponential", "constant", "undecided"):
            row[f"said_{verdict}"] = (table["verdict"] == verdict).mean()
        for price in prices:
            row[f"distance_{price:g}"] = table[f"distance_{price:g}"].median()
            row[f"excess_{price:g}"] = table[f"excess_{price:g}"].quantile(0.9)
        rows.append(row)
    return pd.DataFrame(rows)


def _one(
    process: SyntheticProcess,
    costs: np.ndarray,
    n_runs: int,
    prices: Sequence[float],
    level: float,
    n_draws: int,
    seed: int,
) -> dict[str, float | str]:
    """One draw: estimates, whether their intervals hold, the shape, and what c* costs."""
    runs = process.draw(costs, n_runs, 1, np.random.default_rng(seed))
    errors = (runs.probes - runs.outcomes[:, None]) ** 2
    law = fit_risk_law(costs, errors, runs.models, process.law.static_risk, n_draws, seed)
    found: dict[str, float | str] = {
        "verdict": power_support(costs, errors, runs.models, level, n_draws, seed).verdict
    }
    for name in PARAMETERS:
        low, high = law.interval(name, level)
        found[name] = getattr(law, name)
        found[f"{name}_covered"] = float(low <= getattr(process.law, name) <= high)
    for price in prices:
        true, plan = (optimal_probe(x, price, costs[0]) for x in (process.law, law))
        depth = max(plan.cost, costs[0])
        total = float(process.law(depth)) + price * depth
        found[f"distance_{price:g}"] = abs(depth / true.cost - 1) if true.cost else np.nan
        found[f"excess_{price:g}"] = total / true.total - 1
    return found


def regimes(
    processes: Mapping[str, SyntheticProcess],
    costs: np.ndarray,
    n_models: int,
    n_seeds: int,
    n_repetitions: int,
    n_draws: int = 200,
    progress: bool = False,
) -> pd.DataFrame:
    """How often the whole analysis, predictors and all, finds the regime of a process.

    Args:
        processes: By name.
        costs: Probe costs, shape (n_costs,).
        n_models: Models of a draw.
        n_seeds: Seeds of a draw.
        n_repetitions: Draws.
        n_draws: Bootstrap draws.
        progress: Whether to say how many draws are done.

    Returns:
        One row per process: its true shares of Var(Y), and how often each regime was found, a
        boundary was reported (`near_boundary`), and a wrong regime was reported as clear (`wrong`).
    """
    rows = []
    for name, process in processes.items():
        truth = np.array([process.static_variance, process.reducible, process.intrinsic])
        truth = truth / process.outcome_variance
        right = (*REGIMES, "mixed")[int(truth.argmax()) if truth.max() > 0.5 else 3]
        phases = [
            locate(
                decompose(
                    process.draw(costs, n_models, n_seeds, np.random.default_rng(r)),
                    "synthetic",
                    n_draws=n_draws,
                    seed=r,
                )
            )
            for r in tracked(range(n_repetitions), f"draws of {name}", quiet=not progress)
        ]
        found = [phase.regime for phase in phases]
        shares = dict(zip(("static", "dynamic", "intrinsic"), truth, strict=True))
        rows.append(
            {"process": name, "n_repetitions": n_repetitions, **shares, "truth": right}
            | {regime: found.count(regime) / n_repetitions for regime in (*REGIMES, "mixed")}
            | {
                "near_boundary": float(np.mean([p.near_boundary for p in phases])),
                "wrong": float(
                    np.mean([p.verdict in REGIMES and p.regime != right for p in phases])
                ),
            }
        )
    return pd.DataFrame(rows)
