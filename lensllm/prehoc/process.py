"""A synthetic process whose σ²_int, κ, α and static signal are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.runs import ProbedRuns


@dataclass(frozen=True)
class SyntheticProcess:
    """Runs whose Bayes risk is σ²_int + κ c^(−α) exactly.

    Y = μ + s + u + e with independent Gaussian parts: s is the static signal (one draw per model,
    seen before training), u the course of the optimisation (one draw per run, shown by probes), e
    the part that nothing shows. A probe of cost c shows m(c) = E(u | Z_c), a Gaussian martingale
    with u − m(c) ~ N(0, κ c^(−α)); before any probe m = 0 and Var u = `reducible`. The Bayes
    predictor is μ + s + m(c). SCIENCE: the risk decomposition of Luo, Wang and Tang
    (arXiv:2606.17649).

    Attributes:
        static_variance: Var(s), nats².
        reducible: Var(u) = V(0), nats²; at least κ c^(−α) at every cost that is asked for.
        intrinsic: σ²_int = Var(e), nats².
        scale: κ, nats² at c = 1.
        decay: α.
        mean: μ, nats.
    """

    static_variance: float = 0.02
    reducible: float = 0.2
    intrinsic: float = 0.02
    scale: float = 0.01
    decay: float = 0.6
    mean: float = 3.0

    def __post_init__(self) -> None:
        for name in ("static_variance", "reducible", "intrinsic"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected `{name}` >= 0, got {getattr(self, name):g}")
        for name in ("scale", "decay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Expected `{name}` > 0, got {getattr(self, name):g}")

    @property
    def law(self) -> RiskLaw:
        """The true R(c), with R(0) = σ²_int + V(0)."""
        return RiskLaw(self.intrinsic, self.scale, self.decay, self.intrinsic + self.reducible)

    @property
    def outcome_variance(self) -> float:
        """Var(Y)."""
        return self.static_variance + self.reducible + self.intrinsic

    def draw(
        self,
        costs: np.ndarray,
        n_models: int,
        n_seeds: int,
        rng: np.random.Generator,
        task: str = "synthetic",
    ) -> ProbedRuns:
        """Draw runs: every model with every seed.

        Args:
            costs: Probe costs, ascending, shape (n_costs,).
            n_models: Models, each with a static signal of its own.
            n_seeds: Runs of each model.
            rng: Source of randomness.
            task: Name of the task.

        Returns:
            Runs whose one static feature is μ + s and whose probes are μ + s + m(c): a predictor
            that takes the last probe at face value is the Bayes predictor.

        Raises:
            ValueError: κ c^(−α) at the smallest cost is more than Var(u).
        """
        costs = np.asarray(costs, dtype=float)
        left = self.scale * costs**-self.decay  # V(c), shape (n_costs,)
        if left[0] > self.reducible:
            raise ValueError(
                f"Expected `reducible` >= {left[0]:.4g}, what the law leaves at c = {costs[0]:g}, "
                f"got {self.reducible:g}"
            )
        n_runs = n_models * n_seeds
        models = np.repeat(np.arange(n_models), n_seeds)
        static = self.mean + rng.normal(0.0, self.static_variance**0.5, n_models)[models]
        gains = np.diff(-np.concatenate([[self.reducible], left, [0.0]]))
        parts = rng.normal(size=(n_runs, len(gains))) * np.sqrt(gains)
        shown = np.cumsum(parts, axis=1)  # m(c) at every cost, then u
        outcomes = static + shown[:, -1] + rng.normal(0.0, self.intrinsic**0.5, n_runs)
        return ProbedRuns(
            tasks=np.full(n_runs, task),
            models=np.array([f"model-{i}" for i in models]),
            seeds=np.tile(np.arange(n_seeds), n_models),
            outcomes=outcomes,
            static=static[:, None],
            static_names=("static_signal",),
            costs=costs,
            probes=static[:, None] + shown[:, :-1],
        )
