"""Where the runs of an analysis come from: a trial store, a benchmark, or the synthetic process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lensllm.core.trials import Trial, TrialResult, TrialStore
from lensllm.prehoc.features import FAMILY, Feature, static_features
from lensllm.prehoc.probes import N_COSTS, Static, size_probes, step_probes, zero_shot_results
from lensllm.prehoc.process import SyntheticProcess
from lensllm.prehoc.runs import MIN_MODELS, MIN_SEEDS, ProbedRuns
from lensllm.system.harmless import write_csv

TEACHING = {  # one process per regime; costs from 1 % up
    "synthetic-static": SyntheticProcess(0.6, 0.1, 0.02, 0.005, 0.6),
    "synthetic-dynamic": SyntheticProcess(0.02, 0.4, 0.02, 0.01, 0.6),
    "synthetic-noise": SyntheticProcess(0.02, 0.05, 0.4, 0.002, 0.6),
}


def load_runs(
    trials: str | Path | None = None,
    benchmark: Any = None,
    *,
    synthetic: bool = False,
    kind: Literal["steps", "size"] = "steps",
    n_samples: Mapping[str, int] | None = None,
    models: Sequence[str] | None = None,
    n_costs: int = N_COSTS,
    max_cost: float = 0.5,
    features: Mapping[str, Any] | None = None,
    features_path: Path | None = None,
    seed: int = 0,
) -> ProbedRuns:
    """Load runs with their probes.

    Args:
        trials: Folder of a trial store.
        benchmark: A `lensllm.evaluation.Benchmark` instead; its probes are smaller sizes.
        synthetic: The synthetic process instead, once in each regime.
        kind: `steps` of the final run, or a smaller `size`.
        n_samples: D of the final runs by data set; the largest by default.
        models: Which models; all by default.
        n_costs: Costs of the grid of steps.
        max_cost: Largest cost of a probe.
        features: `datasets` (by name), and `spectra` and `ntk` (providers, or `None`), for static
            features beyond size and zero-shot loss; nothing by default.
        features_path: Where the table of these features is written.
        seed: Seed of the synthetic process.

    Raises:
        ValueError: There is no source, or more than one.
        FileNotFoundError: There is no such folder.
    """
    if (trials is not None) + (benchmark is not None) + synthetic != 1:
        raise ValueError("Expected one of trials=FOLDER, benchmark=NAME and synthetic=true")
    if synthetic:
        return synthetic_runs(max_cost, n_costs, seed)
    if trials is not None and not Path(trials).is_dir():
        raise FileNotFoundError(f"Expected a trial store at trials={trials}, found no folder")
    results = (
        list(TrialStore(trials).results())
        if trials is not None
        else results_of_curves(benchmark.curves)
    )
    if models is not None:
        results = [result for result in results if result.trial.model in models]
    if trials is not None:
        _check_store(results, n_samples or {}, trials)
    static = None
    if features and features.get("datasets"):
        table = feature_table(results, **features)
        if features_path is not None:
            write_csv(table, features_path)
        static = features_by_pair(table)
    if kind == "size" or benchmark is not None:
        return size_probes(results, static, n_samples, max_cost)
    return step_probes(results, static, n_samples, n_costs, max_cost)


def _check_store(
    results: Sequence[TrialResult], n_samples: Mapping[str, int], trials: str | Path
) -> None:
    """Name in one error all that a store lacks, as the store of a campaign does.

    Raises:
        ValueError: On no data set are there enough models and seeds at one size, with D = 0.
    """
    lacks: dict[str, list[str]] = {}
    for dataset in sorted({r.trial.dataset for r in results}):
        own = [r.trial for r in results if r.trial.dataset == dataset and r.status == "completed"]
        size = n_samples.get(dataset, max((t.n_samples for t in own), default=0))
        final = [t for t in own if t.n_samples == size > 0]
        models = {t.model for t in final}
        n_seeds = len({t.seed for t in final})
        bare = sorted(models - {t.model for t in own if t.n_samples == 0})
        lacks[dataset] = [
            *([f"{len(models)} of {MIN_MODELS} models at D = {size}"] * (len(models) < MIN_MODELS)),
            *([f"{n_seeds} of {MIN_SEEDS} seeds"] * (n_seeds < MIN_SEEDS)),
            *([f"no trial with D = 0 of {', '.join(bare)}"] * bool(bare)),
        ]
    if lacks and all(len(found) > 1 for found in lacks.values()):
        words = "; ".join(f"{dataset}: {', '.join(found)}" for dataset, found in lacks.items())
        raise ValueError(
            f"Expected runs of at least {MIN_MODELS} models with {MIN_SEEDS} seeds at one size, "
            f"and D = 0 of each, in {trials}, got {words}. A campaign stops as early as it can and "
            "leaves no such store: run `lensllm train -m model=A,B,C,D seed=0,1 n_samples=0,800` "
            "with its dataset and training settings, or name a smaller size that was run with "
            "n_samples={NAME: D}"
        )


def synthetic_runs(max_cost: float, n_costs: int, seed: int) -> ProbedRuns:
    """Draws of `TEACHING`: 12 models with six seeds each."""
    costs = np.geomspace(0.01, max_cost, n_costs)
    rng = np.random.default_rng(seed)
    return concatenate([p.draw(costs, 12, 6, rng, task=name) for name, p in TEACHING.items()])


def concatenate(parts: Sequence[ProbedRuns]) -> ProbedRuns:
    """Runs with the same costs and features, one after the other."""
    names = ("tasks", "models", "seeds", "outcomes", "static", "probes", "flops", "seconds")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return replace(parts[0], **joined)


def results_of_curves(curves: pd.DataFrame) -> list[TrialResult]:
    """Rows of a tidy table of curves as finished trials, without traces."""
    names = {item.name for item in fields(TrialResult)} & set(curves.columns) - {"status"}
    return [
        TrialResult(
            Trial(row["model"], row["dataset"], int(row["n_samples"]), int(row["seed"])),
            "completed",
            **{name: row[name] for name in names},
        )
        for row in curves.to_dict("records")
    ]


def feature_table(
    results: Sequence[TrialResult],
    datasets: Mapping[str, Any],
    sources: Sequence[Any] = (),
    spectra: Any = None,
    ntk: Any = None,
) -> pd.DataFrame:
    """Static features of every (model, data set) that was run.

    Args:
        results: Finished trials, those with D = 0 included.
        datasets: `TextData` by name.
        sources: The candidates.
        spectra: From a candidate's name to its heavy-tail metrics.
        ntk: From the keyword `data` to a provider of NTK records.

    Returns:
        One row per model, data set and feature: `value`, `unit`, `flops`.

    Raises:
        ValueError: A data set or model that was run is not given.
    """
    from lensllm.finetune.candidates import as_sources

    by_name = {source.name: source for source in as_sources(sources)}
    zero_shot = zero_shot_results(results)
    rows = []
    for model, dataset in sorted({(r.trial.model, r.trial.dataset) for r in results}):
        for kind, name, known in (("data set", dataset, datasets), ("model", model, by_name)):
            if name not in known:
                raise ValueError(
                    f"Expected the {kind} {name!r} among those given for features, got "
                    f"{', '.join(known)}"
                )
        found = static_features(
            by_name[model],
            datasets[dataset],
            zero_shot.get((model, dataset)),
            None if ntk is None else ntk(data=datasets[dataset])(model),
            None if spectra is None else spectra(model),
        )
        rows += [_row(model, dataset, feature) for feature in found]
    return pd.DataFrame(rows)


def _row(model: str, dataset: str, feature: Feature) -> dict[str, Any]:
    return {"model": model, "dataset": dataset, **vars(feature)}


def features_by_pair(table: pd.DataFrame) -> Static:
    """The table of features as {(model, data set): {name: value}}, flags of other families 0."""
    others = {name: 0.0 for name in table["name"] if name.startswith(FAMILY)}
    return {
        pair: others | dict(zip(rows["name"], rows["value"], strict=True))
        for pair, rows in table.groupby(["model", "dataset"])
    }
