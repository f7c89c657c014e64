"""The answer: a ranking with intervals, a verdict, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RankedModel:
    """One candidate in a ranking.

    Attributes:
        model: Name of the candidate.
        score: What it was ranked by; smaller is better.
        predicted_loss: Predicted test loss at D_full in nats per target token; `nan` where the
            selector predicts no loss.
        lower80: Lower end of the 80 % interval of that loss; `nan` where there is none.
        upper80: Upper end of the same.
        p_best: Probability of being the best candidate at D_full; `nan` where there is none.
        status: `ranked`, or why it could not be (`no usable trial`, ...); such candidates are last.
    """

    model: str
    score: float
    predicted_loss: float = math.nan
    lower80: float = math.nan
    upper80: float = math.nan
    p_best: float = math.nan
    status: str = "ranked"


@dataclass(frozen=True)
class Verdict:
    """Whether the evidence is enough for a choice.

    Attributes:
        kind: `clear`; `too_close_to_call` where the choice is expected to lose next to nothing
            against the best, whichever that is; or `not_enough_evidence`.
        contenders: The fewest candidates of whom one is the best with 90 %, the likeliest first;
            at least two where the verdict is not `clear`.
        p_contenders: The probability that it is one of them.
        expected_regret: Expected regret of the choice in nats.
        next_trial: Candidate and size of the trial that is worth most for its price; `None` where
            none is left.
        next_cost_fraction: Its cost as a share of fine-tuning every candidate in full.
        next_gain: By how much it is expected to lower the regret, in nats.
    """

    kind: str
    contenders: tuple[str, ...]
    p_contenders: float
    expected_regret: float
    next_trial: tuple[str, int] | None = None
    next_cost_fraction: float = math.nan
    next_gain: float = math.nan


@dataclass(frozen=True)
class Selection:
    """The answer of a selector.

    Attributes:
        selector: Name of the selector.
        dataset: Name of the data set.
        n_samples_full: Size at which the candidates are compared.
        ranking: All candidates, the best one first.
        reason: In words, what the choice rests on.
        cost_flops: FLOPs charged to reach it, or what `cost_unit` says.
        cost_fraction: The same as a share of fine-tuning every candidate in full.
        decisions: In words and in order, what was asked for and why.
        warnings: In words, what the reader of the answer has to know.
        verdict: Whether the evidence is enough, from selectors that can tell.
        cost_unit: The unit of costs.
    """

    selector: str
    dataset: str
    n_samples_full: int
    ranking: tuple[RankedModel, ...]
    reason: str
    cost_flops: float = 0.0
    cost_fraction: float = 0.0
    decisions: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    cost_unit: str = "FLOPs"

    @property
    def best(self) -> RankedModel:
        """The candidate to fine-tune."""
        return self.ranking[0]


def order(entries: list[RankedModel]) -> tuple[RankedModel, ...]:
    """Sort by ascending score, the first one on ties; scores that are not finite come last."""
    return tuple(
        sorted(entries, key=lambda entry: entry.score if math.isfinite(entry.score) else math.inf)
    )
