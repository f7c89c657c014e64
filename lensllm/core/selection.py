"""The answer: a ranking with intervals, a verdict, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lensllm.core.events import Event
from lensllm.core.evidence import Evidence
from lensllm.core.measures import LOSS, Measure
from lensllm.core.task import Task


@dataclass(frozen=True)
class RankedModel:
    """One candidate in a ranking.

    Attributes:
        model: Name of the candidate.
        score: What it was ranked by; smaller is better.
        predicted_loss: Predicted loss at D_full in the unit of the task's measure; `nan` where the
            selector predicts no loss.
        lower80: Lower end of the 80 % interval of that loss; `nan` where there is none.
        upper80: Upper end of the same.
        p_best: Probability of being the best candidate at D_full, on text like the test set's;
            `nan` where there is none.
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
    """The answer of a selector; `lensllm.reports` has its words.

    Attributes:
        selector: Name of the selector.
        dataset: Name of the data set.
        n_samples_full: Size at which the candidates are compared.
        ranking: All candidates, the best one first.
        events: What the ranking rests on, then what was decided and found, in order.
        cost_flops: FLOPs charged to reach it, or what `cost_unit` says.
        cost_fraction: The same as a share of fine-tuning every candidate in full.
        warnings: Messages that the reader of the answer has to know.
        verdict: Whether the evidence is enough, from selectors that can tell.
        evidence: How finely the test set tells candidates apart; `None` where that is not known.
        evaluation_share: Share of the FLOPs of the trials that evaluation took; `nan` where it is
            not known.
        measure: What the candidates are compared by.
        cost_unit: The unit of costs.
    """

    selector: str
    dataset: str
    n_samples_full: int
    ranking: tuple[RankedModel, ...]
    events: tuple[Event, ...] = ()
    cost_flops: float = 0.0
    cost_fraction: float = 0.0
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    evaluation_share: float = math.nan
    measure: Measure = LOSS
    cost_unit: str = "FLOPs"

    @classmethod
    def of(
        cls,
        selector: str,
        task: Task,
        entries: Iterable[RankedModel],
        *events: Event,
        verdict: Verdict | None = None,
    ) -> Selection:
        """Rank candidates by ascending score, the first one on ties.

        Args:
            selector: Name of the selector.
            task: The question.
            entries: All its candidates; those whose scores are not finite come last.
            events: What the ranking rests on: first one of the kind `ranked_by`, if any.
            verdict: Whether the evidence is enough.
        """
        ranking = sorted(entries, key=lambda e: e.score if math.isfinite(e.score) else math.inf)
        names = task.dataset, task.n_samples_full
        return cls(selector, *names, tuple(ranking), events, verdict=verdict, measure=task.measure)

    @property
    def best(self) -> RankedModel:
        """The candidate to fine-tune."""
        return self.ranking[0]
