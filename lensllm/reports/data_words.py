"""What the data are, and what more of them would bring, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from lensllm.core.data_needs import MAX_FACTOR, DataNeeds, Range
from lensllm.reports.quantities import share

MAX_SHOWN = 40  # characters of a label


def data_words(needs: DataNeeds) -> str:
    """One sentence: twice the data, the size for the wanted loss, and the size that is enough."""
    full = needs.n_samples_full
    loss, gain = needs.twice_loss, needs.twice_gain
    text = (
        f"With twice the data (D = {2 * full}), {needs.model} is expected to reach "
        f"{loss.middle:.3f} nats (80 % interval {loss.lower80:.3f} to {loss.upper80:.3f}), "
        f"{gain.middle:.2g} below that at D = {full} ({gain.lower80:.2g} to {gain.upper80:.2g})"
    )
    if needs.n_for_target is not None:
        text += f"; a loss of {needs.target_loss:g} takes {_sizes(needs.n_for_target, full)}"
    if needs.n_enough is not None:
        error = f"than the standard error of the test set ({needs.standard_error:.2g} nats)"
        if math.isfinite(needs.n_enough.middle):
            text += f"; a doubling brings less {error} from {_sizes(needs.n_enough, full)} on"
        else:
            text += f"; up to D = {MAX_FACTOR * full} each doubling brings more {error}"
    return f"{text}."


def classes_words(classes: Mapping[str, Any]) -> str:
    """The classes of a data set, and the accuracy of always answering with the most frequent one.

    Args:
        classes: See `lensllm.finetune.measuring.classes_of`.
    """
    first, more = ", ".join(map(_short, classes["first"])), classes["n"] - len(classes["first"])
    return (
        f"{classes['n']} classes ({first}{f' and {more} more' if more else ''}); always answering "
        f"{_short(classes['majority'])} is right for {share(classes['majority_share'])} of the "
        "test pairs"
    )


def earlier_words(curves: pd.DataFrame, names: Collection[str]) -> str:
    """Which earlier tasks a campaign can learn from.

    Args:
        curves: Their curves.
        names: The campaign's candidates.
    """
    shared = curves[curves["model"].isin(names)]
    if shared.empty:
        return "earlier tasks: none with one of these candidates (they are matched by their names)"
    tasks = sorted(map(str, shared["dataset"].unique()))
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return (
        f"earlier tasks: {', '.join(tasks[:3])}{more} ({len(shared)} points of "
        f"{shared['model'].nunique()} of {len(names)} candidates)"
    )


def _short(label: str) -> str:
    return label if len(label) <= MAX_SHOWN else f"{label[:MAX_SHOWN]}…"


def _sizes(sizes: Range, full: int) -> str:
    """D = 4000 (80 % interval 2000 to more than 12800)."""
    low, high = (_size(size, full, "") for size in (sizes.lower80, sizes.upper80))
    return f"{_size(sizes.middle, full)} (80 % interval {low} to {high})"


def _size(size: float, full: int, sign: str = "D = ") -> str:
    """A size with two digits, which is all that is known of it."""
    if not math.isfinite(size):
        return f"more than {sign}{MAX_FACTOR * full}"
    step = 10 ** max(0, math.floor(math.log10(size)) - 1)
    return f"{sign}{round(size / step) * step}"
