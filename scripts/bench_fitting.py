"""Curves a CPU second: the batched fit against one-at-a-time SciPy, paired in one run.

Both sides minimise the same objective over the same curves with the same number of starts. SciPy
gets analytic gradients, the well-conditioned coordinates and the box that lensllm uses itself, and
starts from the very design that lensllm screens: `scipy.optimize.minimize` with L-BFGS-B, the
best of the starts kept. Optima are compared curve by curve.

CPU time of the process is counted, not wall time: other work on the machine then matters less.

    python scripts/bench_fitting.py [--rounds 5] [--batch 2000] [--single 4] [--starts 32]
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import time

import numpy as np
from scipy.optimize import minimize

from lensllm.laws import RectifiedLaw, fit_laws
from lensllm.laws.objectives import make_objective
from lensllm.laws.simulation import simulate_curves
from lensllm.laws.solver import Problem, make_problem
from lensllm.laws.starts import screened_starts

SIZES = 200.0 * 2.0 ** np.arange(14)
NOISE = 0.01


def scipy_fits(problem: Problem, n_starts: int, seed: int) -> np.ndarray:
    """Fit one curve after the other; the objective at the best of the starts, (n_curves,)."""
    values = []
    for i in range(len(problem.log_n)):
        one = problem.take(np.array([i]))
        box = list(zip(one.lower[0], one.upper[0], strict=True))

        def value_and_slope(z: np.ndarray, one: Problem = one) -> tuple[float, np.ndarray]:
            residuals, jacobian = one.residuals(z[None])
            pull = one.objective.psi(residuals[0])
            return float(one.objective.rho(residuals[0]).sum()), jacobian[:, 0] @ pull

        best = min(
            minimize(
                value_and_slope,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=box,
                options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8},
            ).fun
            for start in screened_starts(one, n_starts, seed)[0]
        )
        values.append(best)
    return np.array(values)


def bench(objective: str, rounds: int, batch: int, single: int, n_starts: int) -> list[float]:
    """Run both sides in turn; print each round and return the ratios of curves a second."""
    ratios = []
    for seed in range(rounds):
        _, losses = simulate_curves(batch, SIZES, NOISE, seed)
        start = time.process_time()
        fits = fit_laws(RectifiedLaw(), SIZES, losses, objective=objective, n_starts=n_starts)
        ours = batch / (time.process_time() - start)
        few = losses[:single]
        problem = make_problem(
            (RectifiedLaw(),) * single,
            make_objective(objective),
            np.broadcast_to(SIZES, few.shape),
            few,
            np.ones_like(few),
        )
        start = time.process_time()
        values = scipy_fits(problem, n_starts, seed=0)
        theirs = single / (time.process_time() - start)
        ratios.append(ours / theirs)
        excess = fits.value[:single] / values - 1.0
        print(
            f"{objective:12s} {seed:5d} {ours:12.1f} {theirs:12.3f} {ratios[-1]:10.0f} "
            f"{excess.max():+14.1e} {excess.min():+14.1e} {fits.converged.mean():10.4f}",
            flush=True,
        )
    return ratios


def main() -> None:
    """Parse the options, run, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2000, help="curves a batched call")
    parser.add_argument("--single", type=int, default=4, help="curves a round for SciPy")
    parser.add_argument("--starts", type=int, default=32)
    args = parser.parse_args()
    print(f"14-point curves, noise {NOISE}, {args.starts} starts, one thread, CPU seconds")
    print(
        f"{'objective':12s} {'round':>5s} {'batched 1/s':>12s} {'scipy 1/s':>12s} {'ratio':>10s} "
        f"{'worst vs scipy':>14s} {'best vs scipy':>14s} {'converged':>10s}"
    )
    results = {
        name: bench(name, args.rounds, args.batch, args.single, args.starts)
        for name in ("squared_log", "huber")
    }
    for name, ratios in results.items():
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"ratio fit_laws_{name} {middle:.1f} [{low:.1f} {high:.1f}]")


if __name__ == "__main__":
    main()
