"""From finished trials to the losses that probes of each cost had shown."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lensllm.core.trials import TrialResult
from lensllm.prehoc.runs import ProbedRuns

logger = logging.getLogger(__name__)
N_COSTS = 20
MAX_COST = 0.5
ENOUGH_SIZES = 5
Static = Mapping[tuple[str, str], Mapping[str, float]]
_Key = tuple[str, str, int]


def step_probes(
    results: Iterable[TrialResult],
    static: Static | None = None,
    n_samples: Mapping[str, int] | None = None,
    n_costs: int = N_COSTS,
    max_cost: float = MAX_COST,
) -> ProbedRuns:
    """Probes that are training steps of the run itself: its validation loss up to cost c.

    The cost is the share of the planned optimizer steps, training alone; validation is not charged.

    Args:
        results: Finished trials, those with D = 0 included.
        static: Features by (model, data set); by default `default_features`.
        n_samples: D of the final runs by data set, which leaves the others out; by default the
            largest D of each.
        n_costs: Costs of the grid, evenly spread in log c; fewer where traces are coarser.
        max_cost: Largest cost.

    Returns:
        One row per final run that completed; the losses are per target token.

    Raises:
        ValueError: There are no traces, a run occurs twice, or a zero-shot loss is missing.
    """
    finished = _by_run(results)
    full = _final_runs(finished, n_samples)
    traces = [(r, _shares(r), np.array([loss for _, loss in r.trace])) for r in full if r.trace]
    if not traces:
        raise ValueError(
            "Expected final runs with traces of validation losses, found none: fine-tune with "
            "training.n_evaluations > 1"
        )
    first = max(shares[0] for _, shares, _ in traces)
    grid = min((traces_grid(shares, max_cost) for _, shares, _ in traces), key=len)
    wanted = np.geomspace(first, max(max_cost, first), n_costs)
    nearest = np.abs(np.log(grid[:, None] / wanted)).argmin(0)
    costs = np.unique(grid[nearest][grid[nearest] >= first * (1 - 1e-9)])
    probes = [
        [losses[np.flatnonzero(shares <= cost * (1 + 1e-9))[-1]] for cost in costs]
        for _, shares, losses in traces
    ]
    return _collect([r for r, _, _ in traces], finished, static, costs, np.array(probes), "steps")


def traces_grid(shares: np.ndarray, max_cost: float) -> np.ndarray:
    """The recorded costs of one run up to `max_cost`, at least its first one."""
    kept = shares[shares <= max_cost * (1 + 1e-9)]
    return kept if len(kept) else shares[:1]


def size_probes(
    results: Iterable[TrialResult],
    static: Static | None = None,
    n_samples: Mapping[str, int] | None = None,
    max_cost: float = MAX_COST,
) -> ProbedRuns:
    """Probes that are runs on fewer samples: their test loss, at cost D / D_full.

    Args:
        results: Finished trials, those with D = 0 included.
        static: As for `step_probes`.
        n_samples: As for `step_probes`.
        max_cost: Largest cost.

    Returns:
        One row per final run all of whose smaller sizes completed; sizes that some run lacks are
        left out. Unless `n_samples` names data sets, so are those with fewer than five sizes, as
        long as there are others, since the others would lose the sizes that these lack.

    Raises:
        ValueError: There is no size at which all final runs have a probe.
    """
    finished = _by_run(results)
    full = _final_runs(finished, n_samples)
    seen: dict[_Key, dict[float, float]] = {}
    for r in full:
        t = r.trial
        seen[_key(r)] = {
            round(n / t.n_samples, 9): finished[t.model, t.dataset, n, t.seed].test_loss
            for n in sorted({n for m, d, n, s in finished if (m, d, s) == _key(r)})
            if 0 < n <= max_cost * t.n_samples
            and math.isfinite(finished[t.model, t.dataset, n, t.seed].test_loss)
        }
    if n_samples is None:
        full = _with_enough_sizes(full, seen)
    common = set.intersection(*(set(seen[_key(r)]) for r in full)) if full else set()
    if not common:
        raise ValueError("Expected a smaller size that all final runs have a trial at, found none")
    costs = np.array(sorted(common))
    probes = np.array([[seen[_key(r)][cost] for cost in costs] for r in full])
    return _collect(full, finished, static, costs, probes, "size")


def _with_enough_sizes(
    full: list[TrialResult], seen: Mapping[_Key, Mapping[float, float]]
) -> list[TrialResult]:
    """Final runs of the data sets that leave the others enough sizes; all where none does."""
    common: dict[str, set[float]] = {}
    for r in full:
        own = set(seen[_key(r)])
        common[r.trial.dataset] = common.get(r.trial.dataset, own) & own
    few = sorted(dataset for dataset, costs in common.items() if len(costs) < ENOUGH_SIZES)
    if len(few) in (0, len(common)):
        return full
    logger.warning(
        "Left out, since they have fewer than %d smaller sizes: %s (n_samples names data sets)",
        ENOUGH_SIZES,
        ", ".join(few),
    )
    return [r for r in full if r.trial.dataset not in few]


def default_features(zero_shot: TrialResult) -> dict[str, float]:
    """What a store of trials knows of a model before training: its size and its zero-shot loss."""
    return {
        "log10_params": math.log10(max(zero_shot.n_params, 1)),
        "zero_shot_loss": zero_shot.test_loss,
        "zero_shot_loss_per_byte": zero_shot.test_loss_per_byte,
    }


def zero_shot_results(results: Iterable[TrialResult]) -> dict[tuple[str, str], TrialResult]:
    """The trials with D = 0, by (model, data set); the seed does not matter."""
    return {(r.trial.model, r.trial.dataset): r for r in results if r.trial.n_samples == 0}


def _key(result: TrialResult) -> _Key:
    return result.trial.model, result.trial.dataset, result.trial.seed


def _by_run(results: Iterable[TrialResult]) -> dict[tuple[str, str, int, int], TrialResult]:
    """Completed trials by (model, data set, D, seed), each once."""
    found: dict[tuple[str, str, int, int], TrialResult] = {}
    for result in results:
        t = result.trial
        key = (t.model, t.dataset, t.n_samples, t.seed)
        if result.status != "completed":
            continue
        if key in found and t.n_samples > 0:
            raise ValueError(
                f"Expected one run of {t.model!r} on {t.dataset!r} at D = {t.n_samples} with seed "
                f"{t.seed}, got two with different settings: keep each experiment in its own store"
            )
        found[key] = result
    return found


def _final_runs(
    finished: Mapping[tuple[str, str, int, int], TrialResult],
    n_samples: Mapping[str, int] | None,
) -> list[TrialResult]:
    """The runs at the largest (or the given) D of each data set, sorted."""
    datasets = sorted({dataset for _, dataset, _, _ in finished})
    given = dict(n_samples or {})
    unknown = sorted(set(given) - set(datasets))
    if unknown:
        raise ValueError(
            f"Expected data sets among {', '.join(datasets) or 'none'}, got {unknown[0]!r}"
        )
    full = []
    for dataset in given or datasets:
        sizes = [n for _, d, n, _ in finished if d == dataset]
        size = given.get(dataset, max(sizes))
        full += [
            r for (_, d, n, _), r in sorted(finished.items()) if d == dataset and n == size > 0
        ]
    if not full:
        raise ValueError("Expected finished runs with n_samples > 0, found none")
    return full


def _shares(result: TrialResult) -> np.ndarray:
    """Steps of the trace as shares of the planned steps."""
    return np.array([step for step, _ in result.trace], dtype=float) / planned_steps(result)


def planned_steps(result: TrialResult) -> int:
    """Optimizer steps that the run was planned for; early stopping may have taken fewer."""
    training: Mapping[str, Any] = result.trial.settings.get("training", {})
    if "max_epochs" not in training or "batch_size" not in training:
        return result.n_steps
    per_epoch = -(-result.trial.n_samples // int(training["batch_size"]))
    return int(training["max_epochs"]) * per_epoch


def _collect(
    full: list[TrialResult],
    finished: Mapping[tuple[str, str, int, int], TrialResult],
    static: Static | None,
    costs: np.ndarray,
    probes: np.ndarray,
    kind: str,
) -> ProbedRuns:
    if static is None:
        zero_shot = zero_shot_results(finished.values())
        static = {pair: default_features(result) for pair, result in zero_shot.items()}
    pairs = [(r.trial.model, r.trial.dataset) for r in full]
    for model, dataset in pairs:
        if (model, dataset) not in static:
            raise ValueError(
                f"Expected the zero-shot loss of {model!r} on {dataset!r}, found no trial with "
                "D = 0: run it with n_samples=0"
            )
    names = tuple(sorted({name for pair in pairs for name in static[pair]}))
    scale = np.array([planned_steps(r) / max(r.n_steps, 1) for r in full])
    return ProbedRuns(
        tasks=np.array([dataset for _, dataset in pairs]),
        models=np.array([model for model, _ in pairs]),
        seeds=np.array([r.trial.seed for r in full]),
        outcomes=np.array([r.test_loss for r in full]),
        static=np.array([[static[pair].get(name, math.nan) for name in names] for pair in pairs]),
        static_names=names,
        costs=costs,
        probes=probes,
        flops=np.array([r.train_flops for r in full]) * scale,
        seconds=np.array([r.seconds for r in full]) * scale,
        kind=kind,
    )
