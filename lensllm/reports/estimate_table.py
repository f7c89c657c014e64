"""The estimated cost of a campaign, as a table and as a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table

from lensllm.finetune.estimate import CandidateEstimate
from lensllm.finetune.hardware import Hardware
from lensllm.reports.amounts import duration, money


def estimate_table(estimates: Sequence[CandidateEstimate], hardware: Hardware) -> Table:
    """One row per candidate: memory, and the cost of its largest trial and full fine-tuning."""
    table = Table(title=f"Estimate for {hardware.name}")
    for name in (
        "candidate",
        "parameters",
        "trained",
        "memory",
        "examples at once",
        "FLOPs in full",
    ):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    for name in ("time in full", "price in full", "notes"):
        table.add_column(name, justify="left" if name == "notes" else "right")
    for estimate in estimates:
        full = estimate.flops[max(estimate.flops)]
        notes = [estimate.notes] if estimate.notes else []
        notes += ["gated: accept its licence on the Hub first"] if estimate.gated else []
        notes += [] if estimate.fits else [f"DOES NOT FIT: {estimate.advice}"]
        table.add_row(
            estimate.model,
            f"{estimate.n_params / 1e6:.2f} M",
            f"{estimate.n_trainable / estimate.n_params:.1%}",
            f"{'' if estimate.memory.is_known else '> '}{estimate.needed / 1e9:.2f} GB",
            str(estimate.micro_batch),
            f"{full:.3g}",
            duration(hardware.seconds(full)),
            money(hardware.price(full), hardware.currency) or "-",
            "; ".join(notes),
        )
    return table


def estimate_sentence(
    estimates: Sequence[CandidateEstimate], hardware: Hardware, budget_flops: float
) -> str:
    """The campaign's budget compared with fine-tuning every candidate in full."""
    full = sum(estimate.flops[max(estimate.flops)] for estimate in estimates)
    parts = [
        f"{flops:.3g} FLOPs, {duration(hardware.seconds(flops))}"
        + (f", {money(price, hardware.currency)}" if (price := hardware.price(flops)) else "")
        for flops in (budget_flops, full)
    ]
    text = (
        f"The campaign may spend {parts[0]}; every candidate in full takes {parts[1]} on "
        f"{hardware.name}, at {hardware.utilization:.0%} of its peak."
    )
    if budget_flops >= full:
        text += " That budget pays for all of them in full: fine-tune them all, and take the best."
    return text


def smallest_sentence(smallest: Mapping[str, float], full: float, budget_flops: float) -> str:
    """The smallest budget of each selector, as a share of fine-tuning every candidate in full.

    Args:
        smallest: FLOPs by the selector's name.
        full: FLOPs of fine-tuning every candidate in full.
        budget_flops: The campaign's budget.

    Example:
        >>> print(smallest_sentence({"a": 1.0, "b": 30.0, "c": float("inf")}, 100.0, 10.0))
        Smallest budget.fraction by selector: a 0.01, b 0.3, c none (too few sizes). This budget \
(0.1) is too small for b.
    """
    shares = {name: _rounded_up(flops / full) for name, flops in smallest.items()}
    parts = [
        f"{name} {share:.12g}" if math.isfinite(share) else f"{name} none (too few sizes)"
        for name, share in shares.items()
    ]
    short = [name for name, flops in smallest.items() if budget_flops < flops < math.inf]
    text = f"Smallest budget.fraction by selector: {', '.join(parts)}."
    if short:
        text += f" This budget ({budget_flops / full:.3g}) is too small for {', '.join(short)}."
    return text


def _rounded_up(share: float) -> float:
    """The share rounded up to two digits."""
    if share == 0 or not math.isfinite(share):
        return share
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return math.ceil(share / unit * (1 - 1e-9)) * unit
