"""Does the NTK term help? F beside the fitted D_l, and forward validation of the laws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.evaluation.statistics import resampled_means
from lensllm.laws import LensLLMLaw, RectifiedLaw, ScalingLaw, fit_law, forward_validation
from lensllm.laws.comparison import LawOf


def law_variants(
    ntk: Mapping[str, NTKLoss], best_step: Mapping[tuple[str, str, float], float]
) -> dict[str, LawOf]:
    """The rectified law, and LensLLM's with t fitted, t observed, and no term left at all.

    Args:
        ntk: F of each candidate.
        best_step: Early-stopping step by data set, model and size.
    """

    def phase(dataset: str, model: str, budget: float) -> ScalingLaw:
        # where nothing was measured at the budget the fit does not count
        return LensLLMLaw(
            ntk[model], n_steps=max(best_step.get((dataset, model, budget), 1.0), 1.0)
        )

    return {
        "rectified": lambda dataset, model, budget: RectifiedLaw(),
        "lensllm": lambda dataset, model, budget: LensLLMLaw(ntk[model]),
        "lensllm_phase": phase,
        # The same number of parameters as `lensllm_phase`, with F at its largest.
        "lensllm_start": lambda dataset, model, budget: LensLLMLaw(ntk[model], n_steps=0.0),
    }


def fitted_terms(
    curves: pd.DataFrame, ntk: Mapping[str, NTKLoss], *, n_starts: int = 16
) -> pd.DataFrame:
    """F(Θ, t) beside what takes its place in the rectified law, for every curve as a whole.

    Args:
        curves: Tidy table with `best_step`; D = 0 is a point of every fit.
        ntk: F of each candidate; others are left out.
        n_starts: See `lensllm.laws.fit_law`.

    Returns:
        One row per curve: `dataset, model, seed`; of the NTK `ntk_zero` F(0), `ntk_observed` F at
        the early-stopping step of the largest size, `best_step` that step, `effective_rank`,
        `top_eigenvalue`, `alignment`; of the rectified law `pre_learned_size` D_l and
        `transition_size`, each with the ends of its 80 % interval (`_lower80`, `_upper80`), and
        `rmse_log`; of the LensLLM law with κ = 1 `lensllm_term` F as fitted, `capped` whether that
        is F(0), `lensllm_transition_size` and `lensllm_rmse_log`.
    """
    rows = []
    for (dataset, model, seed), points in curves.groupby(["dataset", "model", "seed"], sort=False):
        if model not in ntk:
            continue
        points = points[np.isfinite(points["test_loss"])].sort_values("n_samples")
        sizes, losses = points["n_samples"].to_numpy(float), points["test_loss"].to_numpy(float)
        curve, step = ntk[model], float(points["best_step"].iloc[-1])
        rectified = fit_law(RectifiedLaw(), sizes, losses, use_zero=True, n_starts=n_starts)
        lens = fit_law(LensLLMLaw(curve), sizes, losses, use_zero=True, n_starts=n_starts)
        term = float(curve(lens.named_params["n_steps"]))
        row = {
            "dataset": dataset,
            "model": model,
            "seed": seed,
            "ntk_zero": float(curve(0.0)),
            "ntk_observed": float(curve(step)),
            "best_step": step,
            "effective_rank": curve.effective_rank,
            "top_eigenvalue": float(curve.eigenvalues[0]),
            "alignment": curve.alignment,
            "pre_learned_size": rectified.named_params["pre_learned_size"],
            "transition_size": rectified.transition_size,
            "rmse_log": rectified.rmse_log,
            "lensllm_term": term,
            "capped": term > 0.999 * float(curve(0.0)),
            "lensllm_transition_size": lens.transition_size,
            "lensllm_rmse_log": lens.rmse_log,
        }
        for name in ("pre_learned_size", "transition_size"):
            ends = rectified.posterior.param_interval(name)
            row |= {f"{name}_lower80": ends[0], f"{name}_upper80": ends[1]}
        rows.append(row)
    return pd.DataFrame(rows)


def validate_forward(
    curves: pd.DataFrame,
    ntk: Mapping[str, NTKLoss],
    *,
    min_sizes: int = 4,
    objective: str = "squared_log",
    n_starts: int = 8,
) -> pd.DataFrame:
    """Fit each law to the sizes up to a budget, and compare with every size beyond.

    Args:
        curves: Tidy table with `best_step`; D = 0 is a point of every fit.
        ntk: F of each candidate; others are left out.
        min_sizes: Smallest number of sizes D > 0 of a fit.
        objective: See `lensllm.laws.fit_law`.
        n_starts: See `lensllm.laws.fit_law`.

    Returns:
        What `lensllm.laws.forward_validation` returns, without posteriors, with `seed`.
    """
    curves = curves[curves["model"].isin(list(ntk)) & np.isfinite(curves["test_loss"])]
    place = curves[curves["n_samples"] > 0].groupby(["dataset", "model", "seed"])["n_samples"]
    positive = curves[curves["n_samples"] > 0].assign(place=place.rank())
    enough = positive.loc[
        positive["place"] >= min_sizes, ["dataset", "model", "seed", "n_samples"]
    ].rename(columns={"n_samples": "max_n_samples"})
    tables = []
    for seed, points in curves.groupby("seed", sort=False):
        steps = points.set_index(["dataset", "model", "n_samples"])["best_step"]
        table = forward_validation(
            points,
            law_variants(ntk, steps.to_dict()),
            objective=objective,
            use_zero=True,
            n_starts=n_starts,
            posterior=False,
        )
        tables.append(table.assign(seed=seed))
    return pd.concat(tables).merge(enough, on=list(enough.columns))


def compare_with_rectified(table: pd.DataFrame, n_draws: int = 4000, seed: int = 0) -> pd.DataFrame:
    """RMSE on log loss of each law, and its difference to the rectified law's.

    Args:
        table: What `validate_forward` returned.
        n_draws: Draws of a bootstrap over models, which are the independent units.
        seed: Seed of the draws.

    Returns:
        Indexed by law: `rmse_log`, `difference` and its 80 % interval `lower80, upper80`; negative
        is better than the rectified law.
    """
    squares = table.assign(square=table["log_error"] ** 2)
    by_model = squares.pivot_table(index="model", columns="law", values="square", aggfunc="mean")
    rng = np.random.default_rng(seed)
    draws = np.sqrt(resampled_means(by_model.to_numpy(), n_draws, rng))
    point = np.sqrt(by_model.mean())
    base = list(by_model.columns).index("rectified")
    lower, upper = np.quantile(draws - draws[:, [base]], [0.1, 0.9], axis=0)
    return pd.DataFrame(
        {
            "rmse_log": point,
            "difference": point - point["rectified"],
            "lower80": lower,
            "upper80": upper,
        }
    )
