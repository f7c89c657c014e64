"""Does the NTK term help? F beside the fitted D_l, and forward validation of the laws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lensllm.curvature.ntk_loss import NTKLoss
from lensllm.evaluation.statistics import resampled_means
from lensllm.laws import LensLLMLaw, RectifiedLaw, ScalingLaw, fit_law, fit_laws


def law_variants(curve: NTKLoss, best_step: float) -> dict[str, ScalingLaw]:
    """The rectified law, and LensLLM's with t fitted, t observed, and no term left at all.

    Args:
        curve: F of one candidate.
        best_step: Early-stopping step of the largest size fitted, > 0.
    """
    return {
        "rectified": RectifiedLaw(),
        "lensllm": LensLLMLaw(curve),
        "lensllm_phase": LensLLMLaw(curve, n_steps=best_step),
        # The same number of parameters as `lensllm_phase`, with F at its largest.
        "lensllm_start": LensLLMLaw(curve, n_steps=0.0),
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
        One row a curve: `dataset, model, seed`; of the NTK `ntk_zero` F(0), `ntk_observed` F at
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
        min_sizes: Fewest sizes D > 0 of a fit.
        objective: See `lensllm.laws.fit_law`.
        n_starts: See `lensllm.laws.fit_law`.

    Returns:
        One row a law, curve, budget and size beyond it: `law, model, dataset, seed,
        max_n_samples, n_samples, log_error, term` (D_l or F as fitted).
    """
    rows = []
    keys = ["dataset", "model", "seed"]
    for (dataset, model, seed), points in curves.groupby(keys, sort=False):
        points = points[np.isfinite(points["test_loss"])].sort_values("n_samples")
        sizes = points["n_samples"].to_numpy(float)
        losses = points["test_loss"].to_numpy(float)
        positive = sizes[sizes > 0]
        if model not in ntk:
            continue
        for budget in positive[min_sizes - 1 : -1]:
            kept, beyond = sizes <= budget, sizes > budget
            step = float(points["best_step"].to_numpy()[kept][-1])
            for name, law in law_variants(ntk[model], max(step, 1.0)).items():
                fits = fit_laws(
                    law,
                    sizes[kept],
                    losses[None, kept],
                    objective=objective,
                    use_zero=True,
                    n_starts=n_starts,
                )
                errors = np.log(fits.predict(sizes[beyond])[0] / losses[beyond])
                beta = float(fits.params[0, 1])
                term = float(fits.transition_size[0]) ** beta
                rows += [
                    {
                        "law": name,
                        "dataset": dataset,
                        "model": model,
                        "seed": seed,
                        "max_n_samples": int(budget),
                        "n_samples": int(n),
                        "log_error": error,
                        "term": term,
                    }
                    for n, error in zip(sizes[beyond], errors, strict=True)
                ]
    return pd.DataFrame(rows)


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
