"""Keys and types of every entry point's configuration: one dataclass for each file `conf/*.yaml`.

They live here, and not beside the entry points, so that every process of a parallel sweep can
import them. A group that may not be left out (`selector=null`) has no default; what a number may
be is said beside it and checked by `lensllm.config_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class EntryConfig:
    """Keys of every entry point."""

    paths: Any = MISSING


@dataclass
class FineTuneConfig(EntryConfig):
    """Keys of every entry point that fine-tunes: what `conf/runner/finetune.yaml` refers to."""

    n_samples_full: int | None = None
    sizes: list[int] | None = None
    seed: int = 0
    rank_by: str = "token"
    dataset: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    training: Any = MISSING
    finetune: Any = None
    trainer: Any = MISSING
    logger: Any = None
    runner: Any = MISSING


@dataclass
class BudgetConfig:
    """What may be spent: a share of fine-tuning every candidate in full, or FLOPs."""

    fraction: float | None = 0.1
    flops: float | None = None


@dataclass
class CurvatureConfig(FineTuneConfig):
    """Keys of `conf/curvature.yaml`."""

    n_samples: Any = field(default_factory=lambda: [200, 800, 3200])
    n_hessian: int = 16
    n_training: int = 256
    n_lanczos: int = 30
    epsilon: float = 0.1
    curves: str | None = None
    ntk: Any = MISSING
    model: Any = MISSING


@dataclass
class LiveConfig(FineTuneConfig):
    """Keys of `conf/live.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    n_subsets: int = 0
    subset_size: int = 0
    budget_fractions: list[float] = field(default_factory=list)
    candidates: Any = MISSING
    benchmark: Any = MISSING


@dataclass
class DownloadConfig(EntryConfig):
    """Keys of `conf/download.yaml`."""

    timeout: float = 30.0


@dataclass
class EstimateConfig(FineTuneConfig):
    """Keys of `conf/estimate.yaml`."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    candidates: Any = MISSING
    hardware: Any = MISSING


@dataclass
class EvaluateConfig(EntryConfig):
    """Keys of `conf/evaluate.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    datasets: list[str] | None = None
    seeds: list[int] | None = None
    n_resamples: int = 1000
    seed: int = 0
    benchmark: Any = None
    candidates: Any = None
    dataset: Any = None
    optimizer: Any = None
    training: Any = None


@dataclass
class FetchConfig(EntryConfig):
    """Keys of `conf/fetch.yaml`."""

    dataset: Any = MISSING


@dataclass
class FitConfig(EntryConfig):
    """Keys of conf/fit.yaml; see there."""

    curves: str = MISSING
    law: Any = MISSING
    allow_missing: bool = False
    datasets: list[str] | None = None
    models: list[str] | None = None
    max_n_samples: float | None = None
    objective: str = "squared_log"
    delta: float = 1e-3
    use_zero: bool | None = False
    n_starts: int = 32
    seed: int = 0
    predict_at: list[float] = field(default_factory=list)
    target_loss: float | None = None
    level: float = 0.8
    forward: bool | None = None
    figures: bool = True


@dataclass
class TablesConfig(EntryConfig):
    """Keys of `conf/tables.yaml`."""

    table: str = "all"
    figures: bool = True
    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    gamma_tau_ratios: list[int] = field(default_factory=list)
    trials: str | None = None
    n_resamples: int = 1000
    seed: int = 0
    benchmark: Any = None


@dataclass
class PrehocConfig(EntryConfig):
    """Keys of `conf/prehoc.yaml`."""

    trials: str | None = None
    kind: str = "steps"
    n_samples: Any = None
    models: Any = None
    n_costs: int = 20
    max_cost: float = 0.5
    leave_out: str = "model"
    price: Any = MISSING
    level: float = 0.9
    n_draws: int = 400
    n_candidates: int | None = None
    seed: int = 0
    synthetic: bool = False
    features: Any = MISSING
    benchmark: Any = None
    candidates: Any = MISSING
    optimizer: Any = MISSING
    training: Any = MISSING
    logger: Any = None


@dataclass
class PretrainConfig(EntryConfig):
    """Keys of `conf/pretrain_zoo.yaml`."""

    folder: str = ""
    names: list[str] = field(default_factory=list)
    vocab_size: int = 2048
    extra_packages: list[str] = field(default_factory=list)
    models: list[Any] = field(default_factory=list)
    dataset: Any = None


@dataclass
class RecordConfig(EntryConfig):
    """Keys of `conf/record.yaml`."""

    path: str = ""
    extend: bool = False


@dataclass
class ReplayConfig:
    """Which of the recorded curves to replay."""

    dataset: str | None = None
    seed: int | None = None
    models: list[str] | None = None


@dataclass
class SelectConfig(FineTuneConfig):
    """Keys of `conf/select.yaml`."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    preflight: bool = True
    candidates: Any = MISSING
    selector: Any = MISSING
    executor: Any = MISSING
    benchmark: Any = None
    replay: ReplayConfig = field(default_factory=ReplayConfig)


@dataclass
class StudyCampaignsConfig(EntryConfig):
    """Keys of `conf/study_campaigns.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    n_sets: int = 10
    set_size: int = 8
    seed: int = 0
    earlier_tasks: bool = False
    predictor_choices: str | None = None
    benchmark: Any = None


@dataclass
class StudyNTKConfig(EntryConfig):
    """Keys of `conf/study_ntk.yaml`."""

    gammas: list[int] = field(default_factory=list)
    taus: list[float] = field(default_factory=list)
    budget_ratio: int = 4
    analyses: str | None = None
    seed: int = 0
    candidates: Any = MISSING
    dataset: Any = MISSING
    optimizer: Any = MISSING
    training: Any = MISSING
    benchmark: Any = MISSING
    selector: Any = MISSING


@dataclass
class StudyPrehocConfig(EntryConfig):
    """Keys of `conf/study_prehoc.yaml`."""

    process: Any = MISSING
    n_runs: list[int] = field(default_factory=lambda: [24, 72, 200])
    prices: list[float] = field(default_factory=lambda: [0.01, 0.03, 0.1])
    n_repetitions: int = 200
    n_draws: int = 400
    processes: dict[str, Any] = field(default_factory=dict)
    n_models: int = 12
    n_seeds: int = 6
    n_regime_repetitions: int = 50


@dataclass
class TrainConfig(FineTuneConfig):
    """Keys of `conf/train.yaml`."""

    n_samples: int = 800
    objective: str = "test_loss"
    model: Any = MISSING


@dataclass
class TuneAdaptiveConfig(EntryConfig):
    """Keys of `conf/tune_adaptive.yaml`."""

    settings: list[Any] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list)
    judged_fractions: list[float] = field(default_factory=list)
    judged_seeds: list[int] = field(default_factory=list)
    n_subsets: int = 0
    subset_size: int = 0
    seed: int = 0
    predictor_choices: str | None = None
    baselines: list[Any] = field(default_factory=list)
    chosen: Any = None
    benchmark: Any = None


@dataclass
class TuneConfig(EntryConfig):
    """Keys of `conf/tune.yaml`."""

    selector: str = "pooled_fit"
    budget_ratios: list[int] = field(default_factory=list)
    targets: list[int | None] = field(default_factory=list)
    judged_targets: list[int | None] = field(default_factory=list)
    n_settings: int = 64
    seed: int = 0
    stages: list[Any] = field(default_factory=list)
    benchmark: Any = None
