"""Settings of a selector, chosen on all recorded data sets but the one that they are judged on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.evaluation.benchmark import Benchmark

# Key of the settings that were chosen on all data sets.
NONE_HELD_OUT = "none"

Judge = Callable[[Benchmark, Mapping[str, Any]], pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Tuning:
    """What `tune` found.

    Attributes:
        settings: The settings that were tried, each a mapping from key to value.
        scores: One row per held-out data set, position in `settings` and data set judged: the mean
            score there; a data set is not judged while it is held out.
        chosen: Position of the best settings by held-out data set, and by `none` for all.
    """

    settings: tuple[dict[str, Any], ...]
    scores: pd.DataFrame
    chosen: dict[str, int]

    def choice(self, held_out: str) -> dict[str, Any]:
        """The settings chosen without one data set."""
        return self.settings[self.chosen[held_out]]


def sample_settings(
    search: Mapping[str, Sequence[Any]], n_settings: int, seed: int
) -> tuple[dict[str, Any], ...]:
    """Distinct settings drawn from a grid; the first values of all keys come first.

    Args:
        search: Values by key.
        n_settings: Number of settings; the whole grid where it has no more.
        seed: Seed of the draw.

    Returns:
        The settings.

    Raises:
        ValueError: A key has no values.
    """
    empty = [key for key, values in search.items() if not values]
    if empty or not search:
        raise ValueError(f"Expected values to choose from for every key, got none: {empty}")
    sizes = [len(values) for values in search.values()]
    total = int(np.prod(sizes))
    if total <= n_settings:
        picks = list(itertools.product(*search.values()))
    else:
        rng = np.random.default_rng(seed)
        others = rng.choice(np.arange(1, total), size=n_settings - 1, replace=False)
        places = np.stack(np.unravel_index([0, *sorted(others)], sizes), axis=1)
        picks = [
            tuple(values[i] for values, i in zip(search.values(), place, strict=True))
            for place in places
        ]
    return tuple(dict(zip(search, pick, strict=True)) for pick in picks)


def tune(
    benchmark: Benchmark,
    settings: Sequence[dict[str, Any]],
    judge: Judge,
    base: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Tuning:
    """Choose settings for every held-out data set on the others, and once on all.

    While a data set is held out nothing sees it: it is not judged, and it is not among the earlier
    tasks of the others either.

    Args:
        benchmark: Recorded curves of at least three data sets.
        settings: What to choose from.
        judge: Scores settings on a benchmark: columns `dataset` and `score`, larger is better.
        base: Settings already chosen, by held-out data set, to which the others are added.
        progress: Called with the name of every step.

    Returns:
        The choices and what they rest on.

    Raises:
        ValueError: There are fewer than three data sets.
    """
    if len(benchmark.datasets) < 3:
        raise ValueError(
            f"Expected at least three data sets to choose on two and judge on the third, got "
            f"{len(benchmark.datasets)}"
        )
    rows, chosen = [], {}
    for held_out in (*benchmark.datasets, NONE_HELD_OUT):
        known = without(benchmark, held_out)
        fixed = dict((base or {}).get(held_out, {}))
        for position, values in enumerate(settings):
            if progress is not None:
                progress(f"without {held_out}: {position + 1} of {len(settings)}")
            scores = judge(known, {**fixed, **values}).groupby("dataset")["score"].mean()
            rows += [
                {"held_out": held_out, "settings": position, "dataset": name, "score": score}
                for name, score in scores.items()
            ]
        own = pd.DataFrame(row for row in rows if row["held_out"] == held_out)
        chosen[held_out] = int(own.groupby("settings")["score"].mean().idxmax())
    return Tuning(tuple(settings), pd.DataFrame(rows), chosen)


def without(benchmark: Benchmark, held_out: str) -> Benchmark:
    """The benchmark without one data set, all of it for `none`."""
    return replace(benchmark, curves=benchmark.curves[benchmark.curves["dataset"] != held_out])
