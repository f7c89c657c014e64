"""A recorded benchmark: curves that go up to the size at which candidates are compared."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from lensllm.core.curves import check_curves
from lensllm.core.measures import measure_named
from lensllm.execution.replay import ReplayRunner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Recorded curves of many candidates on one or more data sets.

    Attributes:
        name: Name in tables.
        curves: Tidy table of curves.
        n_samples_full: Size D_full at which candidates are compared; by default the largest of
            each data set.
        tokens_per_sample: Source and target tokens per sample, by data set, for costs where no
            FLOPs were recorded; 1 by default.
        n_epochs: Passes over the data, for the same costs.
        source: Where the curves come from.
        measure: Name of what candidates are compared by, see `lensllm.core.measures`.

    Raises:
        ValueError: The curves fail `check_curves`, do not have the measure, or have costs that are
            not positive.
    """

    name: str
    curves: pd.DataFrame
    n_samples_full: int | None = None
    tokens_per_sample: Mapping[str, float] = field(default_factory=dict)
    n_epochs: float = 1.0
    source: str = ""
    measure: str = "loss"

    def __post_init__(self) -> None:
        object.__setattr__(self, "curves", check_curves(self.curves, f"the benchmark {self.name}"))
        measure_named(self.measure).require(self.curves, f"the benchmark {self.name}")
        if "flops" in self.curves:
            wrong = self.curves[(self.curves["n_samples"] > 0) & (self.curves["flops"] <= 0)]
            if len(wrong):
                row = wrong.iloc[0]
                raise ValueError(
                    f"Expected `flops` > 0 where n_samples > 0 in the benchmark {self.name}, got "
                    f"{row['flops']:g} for {row['model']!r} at n_samples = {row['n_samples']}: "
                    "leave cells empty where they are unknown"
                )

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets, sorted."""
        return tuple(sorted(self.curves["dataset"].unique()))

    def seeds(self, dataset: str) -> tuple[int, ...]:
        """Seeds of one data set under which some candidate has a loss at D_full, ascending.

        Raises:
            ValueError: There is none.
        """
        target = self.target(dataset)
        rows = self.curves[self.curves["dataset"] == dataset]
        found = sorted(rows.loc[rows["n_samples"] == target, "seed"].unique())
        if not found:
            raise ValueError(
                f"Expected candidates with a loss at n_samples = {target} on {dataset!r}, got "
                "none: set benchmark.n_samples_full to a size that was recorded"
            )
        return tuple(map(int, found))

    def target(self, dataset: str) -> int:
        """D_full of one data set."""
        rows = self.curves[self.curves["dataset"] == dataset]
        return int(self.n_samples_full or rows["n_samples"].max())

    def runner(
        self, dataset: str, seed: int | None = None, models: tuple[str, ...] | None = None
    ) -> ReplayRunner:
        """Replay one data set; candidates without a recorded loss at D_full are left out by name.

        Args:
            dataset: Name of the data set.
            seed: Seed of the curves; by default the smallest that has losses at D_full.
            models: Which candidates; all by default.

        Raises:
            ValueError: The data set is unknown, or no candidate has a loss at D_full.
        """
        if dataset not in self.datasets:
            listed = ", ".join(self.datasets)
            raise ValueError(f"Expected one of the data sets {listed}, got {dataset!r}")
        seeds, target = self.seeds(dataset), self.target(dataset)
        seed = seeds[0] if seed is None else seed
        rows = self.curves[(self.curves["dataset"] == dataset) & (self.curves["seed"] == seed)]
        if models is not None:
            rows = rows[rows["model"].isin(models)]
        known = set(rows.loc[rows["n_samples"] == target, "model"])
        unknown = sorted(set(rows["model"]) - known)
        if not known:
            raise ValueError(
                f"Expected candidates with a loss at n_samples = {target} on {dataset!r} under "
                f"seed {seed}, got none; seeds that have one: {', '.join(map(str, seeds))}"
            )
        if unknown:
            logger.warning(
                "Left out of %s, since their loss at n_samples = %d was not recorded: %s",
                dataset,
                target,
                ", ".join(unknown),
            )
        return ReplayRunner(
            rows[rows["model"].isin(known)],
            dataset,
            target,
            seed,
            self.tokens_per_sample.get(dataset, 1.0),
            self.n_epochs,
            self.measure,
        )
