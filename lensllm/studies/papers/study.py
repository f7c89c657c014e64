"""The evaluations that tables and figures share, each made once and when first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from lensllm.evaluation import Benchmark, Evaluation, evaluate
from lensllm.evaluation.judge import selection_metrics
from lensllm.selectors import Selector
from lensllm.system.progress import Report


@dataclass(frozen=True, eq=False)
class Study:
    """A benchmark with the selectors and budgets that its tables are about.

    Attributes:
        benchmark: The recorded curves.
        selectors: Selectors to judge.
        budget_ratios: D_full / D_max of the papers' protocol.
        budget_fractions: Budgets of the FLOPs' protocol.
        gamma_tau_ratios: Ratios for the ablation of LensLLM.
        seed: Seed of the bootstrap.
        n_resamples: Resamples of the bootstrap.
        overrides: Settings that are not the defaults, for the captions.
        trials: Folder of trials of the learning-rate sweep, where there is one.
        progress: Called with a line for every part.
    """

    benchmark: Benchmark
    selectors: Sequence[Selector]
    budget_ratios: Sequence[int]
    budget_fractions: Sequence[float] = ()
    gamma_tau_ratios: Sequence[int] = (32,)
    seed: int = 0
    n_resamples: int = 1000
    overrides: Sequence[str] = ()
    trials: str | None = None
    progress: Report | None = None
    _scores: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def command(self, table: str) -> str:
        """The command that makes one table, for its caption."""
        words = ["lensllm tables", f"table={table}"]
        return " ".join([*words, f"benchmark={self.benchmark.name}", *self.overrides])

    def say(self, line: str) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(line)

    @cached_property
    def evaluation(self) -> Evaluation:
        """All selectors, both protocols."""
        return evaluate(
            self.benchmark,
            self.selectors,
            self.budget_ratios,
            self.budget_fractions,
            progress=self.progress,
        )

    def papers_scores(self, selectors: Sequence[Selector]) -> pd.DataFrame:
        """Scores of selectors in the papers' protocol, whatever `self.selectors` are."""
        for selector in selectors:
            if selector.name in self._scores:
                continue
            if "evaluation" in self.__dict__ and selector in self.selectors:
                scores = self.evaluation.scores
                scores = scores[scores["protocol"] == "papers"]
                self._scores[selector.name] = scores[scores["selector"] == selector.name]
            else:
                found = evaluate(
                    self.benchmark, [selector], self.budget_ratios, progress=self.progress
                )
                self._scores[selector.name] = found.scores
        return pd.concat([self._scores[s.name] for s in selectors], ignore_index=True)

    def below(self, n_params: float) -> Benchmark:
        """The benchmark with candidates of fewer parameters only."""
        curves = self.benchmark.curves
        return replace(self.benchmark, curves=curves[curves["n_params"] < n_params])

    def given(self, selector: Selector, dataset: str, ratio: int) -> dict[str, float]:
        """Metrics of a selector that is given every D ≤ D_full / ratio, without a campaign."""
        runner = self.benchmark.runner(dataset)
        largest = runner.n_samples_full // ratio
        seen = runner.curves[runner.curves["n_samples"] <= largest]
        self.say(f"{selector.name} on {dataset} at D/{ratio}")
        return selection_metrics(selector.rank(runner.task(), seen), runner.truth())

    def wide(self, dataset: str) -> pd.DataFrame:
        """Losses of one data set, models by sizes."""
        rows = self.benchmark.curves[self.benchmark.curves["dataset"] == dataset]
        return rows.pivot_table(index="model", columns="n_samples", values="test_loss")
