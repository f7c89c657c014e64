"""Keys and types of every entry point's configuration: one dataclass for each file `conf/*.yaml`.

They are here, and not beside the entry points, so that every process of a parallel sweep can
import them. The range of a value is in its metadata; `lensllm.commands.config_checks` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

# Rules in the metadata of a field. `group`: may not be left out. `above`, `least`, `below`, `most`:
# bounds of a number or of the numbers in a list. `among`: allowed values. `measure`: what
# `lensllm.core.measures.measure_named` takes. `filled`: the list may
# not be empty, with the text that follows "at least one" in the error message.
_GROUP = {"group": True}
_COUNT = {"least": 1}
_NATURAL = {"least": 0}
_POSITIVE = {"above": 0}
_SHARE = {"above": 0, "below": 1}
_SEED = {"least": 0, "most": 2**32 - 1}
_SOME = {"filled": ": null takes all"}
_SIZES = {"least": 0, "filled": ": null takes 0 and doublings of 200"}
_MEASURE = {"measure": True}
_LOSS = {"among": ("loss", "loss_per_byte")}
_SPACE = {"filled": ": name a setting and its range"}
_OBJECTIVE = {"among": ("test_loss", "validation_loss")}


# The value of a config group: a `_target_` with its arguments, or a few plain values.
Component = dict[str, Any]


@dataclass
class PathsConfig:
    """Folders that the project reads and writes."""

    output_dir: str = MISSING
    store_dir: str = MISSING
    cache_dir: str = MISSING
    benchmark_dir: str = MISSING


@dataclass
class EntryConfig:
    """Keys of every entry point.

    Attributes:
        allowed_targets: Modules whose classes and functions a `_target_` may name beyond those of
            `lensllm.commands.targets`; it may be set only on the command line.
    """

    paths: PathsConfig = field(default=MISSING, metadata=_GROUP)
    allowed_targets: list[str] = field(default_factory=list)


@dataclass
class FineTuneConfig(EntryConfig):
    """Keys of every entry point that fine-tunes: those that `conf/runner/finetune.yaml` uses."""

    n_samples_full: int | None = field(default=None, metadata=_COUNT)
    sizes: list[int] | None = field(default=None, metadata=_SIZES)
    seed: int = field(default=0, metadata=_SEED)
    measure: Any = field(default="loss", metadata=_MEASURE)
    dataset: Component = field(default=MISSING, metadata=_GROUP)
    optimizer: Component = field(default=MISSING, metadata=_GROUP)
    scheduler: Component = field(default=MISSING, metadata=_GROUP)
    training: Component = field(default=MISSING, metadata=_GROUP)
    finetune: Component | None = None
    keep_weights: Any = field(default=False, metadata={"among": (False, True, "all")})
    max_weights_gb: float | None = field(default=None, metadata=_POSITIVE)
    trainer: Component = field(default=MISSING, metadata=_GROUP)
    callbacks: Component | None = None
    logger: Component | None = None
    runner: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class BudgetConfig:
    """The budget: an amount with its unit; a share of fine-tuning every candidate in full; FLOPs.

    One of them is given, in the place of the default share.
    """

    limit: Any = None
    fraction: float | None = field(default=0.1, metadata=_POSITIVE)
    flops: float | None = field(default=None, metadata=_POSITIVE)


@dataclass
class LimitsConfig:
    """Limits on candidates; see `lensllm.core.limits.Limits`."""

    _target_: str = "lensllm.core.limits.Limits"
    max_params: float | None = field(default=None, metadata=_POSITIVE)
    max_memory_gb: float | None = field(default=None, metadata=_POSITIVE)
    licence: list[str] | None = field(default=None, metadata=_SOME)
    max_latency_ms: float | None = field(default=None, metadata=_POSITIVE)


@dataclass
class CurvatureConfig(FineTuneConfig):
    """Keys of `conf/curvature.yaml`."""

    measure: str = field(default="loss", metadata=_LOSS)
    n_samples: Any = field(default_factory=lambda: [200, 800, 3200])
    n_hessian: int = field(default=16, metadata=_COUNT)
    n_training: int = field(default=256, metadata=_COUNT)
    n_lanczos: int = field(default=30, metadata=_COUNT)
    epsilon: float = field(default=0.1, metadata=_POSITIVE)
    curves: str | None = None
    ntk: Component = field(default=MISSING, metadata=_GROUP)
    model: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class LiveConfig(FineTuneConfig):
    """Keys of `conf/live.yaml`."""

    measure: str = field(default="loss", metadata=_LOSS)
    selectors: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list, metadata=_SEED)
    n_subsets: int = field(default=0, metadata=_NATURAL)
    subset_size: int = field(default=0, metadata=_NATURAL)
    budget_fractions: list[float] = field(default_factory=list, metadata=_POSITIVE)
    candidates: Component = field(default=MISSING, metadata=_GROUP)
    benchmark: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class DownloadConfig(EntryConfig):
    """Keys of `conf/download.yaml`."""

    timeout: float = field(default=30.0, metadata=_POSITIVE)


@dataclass
class CleanConfig(EntryConfig):
    """Keys of `conf/clean.yaml`."""

    delete: bool = False
    kinds: list[str] = field(
        default_factory=list,
        metadata={"among": ("checkpoint", "tokens", "claim", "temporary"), "filled": ""},
    )
    older_than_days: float = field(default=1.0, metadata=_NATURAL)


@dataclass
class DoctorConfig(EntryConfig):
    """Keys of `conf/doctor.yaml`."""

    hub: bool = False
    trial: bool = True
    device: str | None = field(default=None, metadata={"among": ("cpu", "gpu")})
    minutes: float = field(default=8.0, metadata=_POSITIVE)


@dataclass
class EstimateConfig(FineTuneConfig):
    """Keys of `conf/estimate.yaml`."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    candidates: Component = field(default=MISSING, metadata=_GROUP)
    hardware: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class EvaluateConfig(EntryConfig):
    """Keys of `conf/evaluate.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list, metadata=_COUNT)
    budget_fractions: list[float] = field(default_factory=list, metadata=_POSITIVE)
    measure: str = field(default="loss", metadata=_LOSS)
    datasets: list[str] | None = field(default=None, metadata=_SOME)
    seeds: list[int] | None = field(default=None, metadata={**_SOME, **_SEED})
    n_resamples: int = field(default=1000, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    benchmark: Component = field(default=MISSING, metadata=_GROUP)
    candidates: Component | None = None
    dataset: Component | None = None
    optimizer: Component | None = None
    training: Component | None = None


@dataclass
class FetchConfig(EntryConfig):
    """Keys of `conf/fetch.yaml`."""

    dataset: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class FitConfig(EntryConfig):
    """Keys of conf/fit.yaml; see there."""

    curves: str = MISSING
    law: Component = field(default=MISSING, metadata=_GROUP)
    allow_missing: bool = False
    datasets: list[str] | None = field(default=None, metadata=_SOME)
    models: list[str] | None = field(default=None, metadata=_SOME)
    max_n_samples: float | None = field(default=None, metadata=_NATURAL)
    objective: str = "squared_log"
    delta: float = field(default=1e-3, metadata=_POSITIVE)
    use_zero: bool | None = False
    n_starts: int = field(default=32, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    predict_at: list[float] = field(default_factory=list, metadata=_NATURAL)
    target_loss: float | None = field(default=None, metadata=_POSITIVE)
    level: float = field(default=0.8, metadata=_SHARE)
    forward: bool | None = None
    figures: bool = True


@dataclass
class TablesConfig(EntryConfig):
    """Keys of `conf/tables.yaml`."""

    table: str = "all"
    figures: bool = True
    selectors: list[Any] = field(default_factory=list)
    budget_ratios: list[int] = field(default_factory=list, metadata=_COUNT)
    budget_fractions: list[float] = field(default_factory=list, metadata=_POSITIVE)
    gamma_tau_ratios: list[int] = field(default_factory=list, metadata=_COUNT)
    trials: str | None = None
    n_resamples: int = field(default=1000, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    benchmark: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class PrehocConfig(EntryConfig):
    """Keys of `conf/prehoc.yaml`."""

    trials: str | None = None
    kind: str = "steps"
    n_samples: dict[str, int] | None = None
    models: list[str] | None = field(default=None, metadata=_SOME)
    n_costs: int = field(default=20, metadata=_COUNT)
    max_cost: float = field(default=0.5, metadata=_POSITIVE)
    leave_out: str = "model"
    price: Component = field(default=MISSING, metadata=_GROUP)
    level: float = field(default=0.9, metadata=_SHARE)
    n_draws: int = field(default=400, metadata=_COUNT)
    n_candidates: int | None = field(default=None, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    synthetic: bool = False
    features: Component = field(default=MISSING, metadata=_GROUP)
    benchmark: Component | None = None
    candidates: Component = field(default=MISSING, metadata=_GROUP)
    optimizer: Component = field(default=MISSING, metadata=_GROUP)
    training: Component = field(default=MISSING, metadata=_GROUP)
    logger: Component | None = None


@dataclass
class ImportConfig(EntryConfig):
    """Keys of `conf/import.yaml`."""

    path: str = MISSING
    output: str | None = None
    model_name: str | None = None
    dataset_name: str | None = None
    n_samples: int | None = field(default=None, metadata=_NATURAL)
    model_from: str | None = None
    dataset_from: str | None = None
    n_samples_from: str | None = None
    seed_from: str | None = None
    loss: str | None = None
    evaluation: str = field(default="best", metadata={"among": ("best", "last")})
    source: str | None = None


@dataclass
class JudgeSelectorsConfig(EntryConfig):
    """Keys of `conf/judge_selectors.yaml`."""

    selectors: list[Any] = field(default_factory=list)
    budget_fractions: list[float] = field(default_factory=list, metadata=_POSITIVE)
    set_sizes: list[int | None] = field(default_factory=list)
    n_sets: int = field(default=1, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    earlier_tasks: bool = False
    benchmark: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class PretrainConfig(EntryConfig):
    """Keys of `conf/pretrain_zoo.yaml`."""

    folder: str = ""
    names: list[str] = field(default_factory=list)
    vocab_size: int = field(default=2048, metadata=_COUNT)
    extra_packages: list[str] = field(default_factory=list)
    models: list[Component] = field(default_factory=list)
    dataset: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class FinetuneConfig(EntryConfig):
    """Keys of `conf/finetune.yaml`."""

    selection: str = MISSING
    output: str = MISSING
    candidate: str | None = None
    confirm: int = field(default=1, metadata=_COUNT)
    merge: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    logger: Component | None = None


@dataclass
class ReportConfig(EntryConfig):
    """Keys of `conf/report.yaml`."""

    folder: str = MISSING
    path: str | None = None


@dataclass
class RecordConfig(EntryConfig):
    """Keys of `conf/record.yaml`."""

    path: str = ""
    extend: bool = False


@dataclass
class ReplayConfig:
    """Which of the recorded curves to replay."""

    dataset: str | None = None
    seed: int | None = field(default=None, metadata=_SEED)
    models: list[str] | None = field(default=None, metadata=_SOME)


@dataclass
class ReportSettings:
    """What goes into a campaign's report."""

    examples: int = field(default=0, metadata=_NATURAL)


@dataclass
class SelectConfig(FineTuneConfig):
    """Keys of `conf/select.yaml`."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    preflight: bool = True
    price_per_hour: Any = None
    trial_time_limit: Any = None
    max_failures: int = 2
    reuse: bool = True
    prior_curves: str | None = None
    target_loss: float | None = field(default=None, metadata=_POSITIVE)
    candidates: Component = field(default=MISSING, metadata=_GROUP)
    selector: Component = field(default=MISSING, metadata=_GROUP)
    executor: Component = field(default=MISSING, metadata=_GROUP)
    benchmark: Component | None = None
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass
class StudyNTKConfig(EntryConfig):
    """Keys of `conf/study_ntk.yaml`."""

    gammas: list[int] = field(default_factory=list, metadata=_NATURAL)
    taus: list[float] = field(default_factory=list, metadata=_NATURAL)
    budget_ratio: int = field(default=4, metadata=_COUNT)
    analyses: str | None = None
    seed: int = field(default=0, metadata=_SEED)
    candidates: Component = field(default=MISSING, metadata=_GROUP)
    dataset: Component = field(default=MISSING, metadata=_GROUP)
    optimizer: Component = field(default=MISSING, metadata=_GROUP)
    training: Component = field(default=MISSING, metadata=_GROUP)
    benchmark: Component = field(default=MISSING, metadata=_GROUP)
    selector: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class StudyPrehocConfig(EntryConfig):
    """Keys of `conf/study_prehoc.yaml`."""

    process: Component = field(default=MISSING, metadata=_GROUP)
    n_runs: list[int] = field(default_factory=lambda: [24, 72, 200], metadata=_COUNT)
    prices: list[float] = field(default_factory=lambda: [0.01, 0.03, 0.1], metadata=_POSITIVE)
    n_repetitions: int = field(default=200, metadata=_COUNT)
    n_draws: int = field(default=400, metadata=_COUNT)
    processes: dict[str, Component] = field(default_factory=dict)
    n_models: int = field(default=12, metadata=_COUNT)
    n_seeds: int = field(default=6, metadata=_COUNT)
    n_regime_repetitions: int = field(default=50, metadata=_NATURAL)


@dataclass
class TrainConfig(FineTuneConfig):
    """Keys of `conf/train.yaml`."""

    n_samples: int = 800
    objective: str = field(default="test_loss", metadata=_OBJECTIVE)
    model: Component = field(default=MISSING, metadata=_GROUP)


@dataclass
class RangeConfig:
    """The range of a setting, see `lensllm.execution.search.Range`."""

    name: str = MISSING
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: list[Any] | None = None


@dataclass
class SearchConfig(TrainConfig):
    """Keys of `conf/search.yaml`."""

    space: list[RangeConfig] = field(default_factory=list, metadata=_SPACE)
    n_trials: int = field(default=6, metadata=_COUNT)
    n_random: int = field(default=4, metadata=_NATURAL)
    search_seed: int = field(default=0, metadata=_SEED)


@dataclass
class TuneConfig(EntryConfig):
    """Keys of `conf/tune.yaml`."""

    selector: str = "pooled_fit"
    budget_ratios: list[int] = field(default_factory=list, metadata=_COUNT)
    targets: list[int | None] = field(default_factory=list)
    judged_targets: list[int | None] = field(default_factory=list)
    n_settings: int = field(default=64, metadata=_COUNT)
    seed: int = field(default=0, metadata=_SEED)
    stages: list[Component] = field(default_factory=list)
    benchmark: Component = field(default=MISSING, metadata=_GROUP)
