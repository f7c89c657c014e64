"""What pre-hoc prediction learns from: finished runs, and what probes of each cost had shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

MIN_MODELS = 4
MIN_SEEDS = 2
MIN_RUNS = 12
_CONSTANT = 1e-9


@dataclass(frozen=True, eq=False)
class ProbedRuns:
    """Final outcomes of runs, their static features, and the loss seen at each probe cost.

    Attributes:
        tasks: Task of each run, shape (n_runs,).
        models: Model of each run, shape (n_runs,).
        seeds: Seed of each run, shape (n_runs,).
        outcomes: Y, the final test loss in nats per target token, shape (n_runs,).
        static: S, what is known before training, shape (n_runs, n_features).
        static_names: Names of its columns.
        costs: Probe costs c as shares of the full run, ascending, in (0, 1], shape (n_costs,).
        probes: Latest loss that a probe of cost c had shown, nats, shape (n_runs, n_costs).
        flops: FLOPs of the full run, shape (n_runs,); 1 where unknown.
        seconds: Seconds of the full run, shape (n_runs,); 1 where unknown.
        kind: What a probe is, for texts: `steps` of the run itself, or a smaller `size`.
    """

    tasks: np.ndarray
    models: np.ndarray
    seeds: np.ndarray
    outcomes: np.ndarray
    static: np.ndarray
    static_names: tuple[str, ...]
    costs: np.ndarray
    probes: np.ndarray
    flops: np.ndarray = field(default_factory=lambda: np.ones(0))
    seconds: np.ndarray = field(default_factory=lambda: np.ones(0))
    kind: str = "steps"

    def __post_init__(self) -> None:
        n_runs = len(self.outcomes)
        for name in ("flops", "seconds"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.ones(n_runs))
        shapes = {
            "tasks": (n_runs,),
            "models": (n_runs,),
            "seeds": (n_runs,),
            "static": (n_runs, len(self.static_names)),
            "probes": (n_runs, len(self.costs)),
            "flops": (n_runs,),
            "seconds": (n_runs,),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                found = np.shape(getattr(self, name))
                raise ValueError(f"Expected `{name}` of shape {shape}, got {found}")
        if np.any(np.diff(self.costs) <= 0) or np.any(self.costs <= 0):
            raise ValueError(f"Expected ascending `costs` > 0, got {self.costs.tolist()}")
        if not (np.isfinite(self.outcomes).all() and np.isfinite(self.probes).all()):
            raise ValueError("Expected finite `outcomes` and `probes`: leave diverged runs out")

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Distinct tasks, sorted."""
        return tuple(sorted({str(task) for task in self.tasks}))

    @property
    def level_flops(self) -> np.ndarray:
        """FLOPs from each probe to the next deeper one, shape (n_runs, n_costs).

        A run goes on with its next step; a larger size is fine-tuned from scratch.
        """
        shares = self.costs if self.kind == "size" else np.diff(self.costs, prepend=0.0)
        return self.flops[:, None] * shares

    def select(self, rows: np.ndarray) -> ProbedRuns:
        """The runs that a mask or positions select."""
        names = ("tasks", "models", "seeds", "outcomes", "static", "probes", "flops", "seconds")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def task(self, name: str) -> ProbedRuns:
        """The runs of one task.

        Raises:
            ValueError: There are none.
        """
        if name not in self.task_names:
            raise ValueError(f"Expected one of the tasks {', '.join(self.task_names)}, got {name}")
        return self.select(self.tasks == name)


def require_enough(runs: ProbedRuns, what: str) -> None:
    """Refuse runs from which no risk can be estimated.

    Args:
        runs: The runs of one task.
        what: Their name, for the message.

    Raises:
        ValueError: Too few models, seeds, runs or probes, or constant outcomes; the message says
            what is missing.
    """
    n_models, n_seeds = len(set(runs.models)), len(set(runs.seeds))
    advice = "run more with `lensllm train -m model=... seed=...`"
    if n_models < MIN_MODELS:
        raise ValueError(
            f"Expected runs of at least {MIN_MODELS} models on {what}, got {n_models}: a model is "
            f"predicted from the others; {advice}"
        )
    if n_seeds < MIN_SEEDS:
        raise ValueError(
            f"Expected at least {MIN_SEEDS} seeds on {what}, got {n_seeds}: without repeated "
            f"seeds noise cannot be told from the model; {advice}"
        )
    if len(runs) < MIN_RUNS:
        raise ValueError(f"Expected at least {MIN_RUNS} runs on {what}, got {len(runs)}; {advice}")
    spread = float(np.std(runs.outcomes))
    if spread <= _CONSTANT * max(1.0, abs(float(np.mean(runs.outcomes)))):
        raise ValueError(
            f"Expected outcomes that differ on {what}, got {len(runs)} times "
            f"{runs.outcomes[0]:.6g}: nothing is left to predict"
        )
    if len(runs.costs) < 4:
        raise ValueError(
            f"Expected at least 4 probe costs on {what}, got {len(runs.costs)}: a risk law has 3 "
            "parameters; raise max_cost or training.n_evaluations, or add sizes"
        )
