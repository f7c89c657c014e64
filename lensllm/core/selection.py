"""The answer: a ranking with intervals, a verdict, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from lensllm.core.data_needs import DataNeeds
from lensllm.core.events import Event
from lensllm.core.evidence import Evidence
from lensllm.core.measures import LOSS, Measure
from lensllm.core.task import Candidate, Task


@dataclass(frozen=True)
class RankedModel:
    """One candidate in a ranking.

    Attributes:
        model: Name of the candidate.
        score: The score it was ranked by; smaller is better.
        predicted_loss: Predicted value of the task's measure at D_full, a loss unless another
            measure was asked for; `nan` if the selector predicts none.
        lower80: Lower end of the 80 % interval of that value; `nan` if there is none.
        upper80: Upper end of the same interval.
        p_best: Probability of being the best candidate at D_full, on text like the test set's;
            `nan` if there is none.
        status: `ranked`, or why it could not be ranked (`no usable trial`, ...); such candidates
            come last.
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
    """Whether the evidence is sufficient for a choice.

    Attributes:
        kind: `clear`; `too_close_to_call` if the expected regret of the choice between models is
            negligible, whichever of them is best; or `not_enough_evidence`.
        contenders: The smallest set of models that contains the best one with probability 90 %,
            in descending order of P(best); at least two if the verdict is not `clear` and there
            are two. The arms of a model count as one.
        p_contenders: The probability that the best model is one of them.
        expected_regret: Expected regret of the choice, in the measure's unit (nats for losses).
        arm_regret: The part of it that is due to the choice among the arms of the chosen model.
        next_trial: Candidate and size of the trial with the best ratio of gain to cost; `None` if
            none is left.
        next_cost_fraction: Its cost as a share of fine-tuning every candidate in full.
        next_gain: Expected fall in regret from that trial, in the same unit.
    """

    kind: str
    contenders: tuple[str, ...]
    p_contenders: float
    expected_regret: float
    next_trial: tuple[str, int] | None = None
    next_cost_fraction: float = math.nan
    next_gain: float = math.nan
    arm_regret: float = 0.0


@dataclass(frozen=True)
class Selection:
    """The answer of a selector; `lensllm.reports` words it.

    Attributes:
        selector: Name of the selector.
        dataset: Name of the data set.
        n_samples_full: Size at which the candidates are compared.
        ranking: All candidates, the best one first.
        events: The basis of the ranking, then decisions and results in order.
        cost_flops: Cost charged to reach it, in FLOPs unless `cost_unit` says otherwise.
        cost_fraction: The same as a share of fine-tuning every candidate in full.
        cost_seconds: Wall time of the campaign if its budget was in time or money, else of its
            trials; `nan` if trials were looked up.
        price_per_hour: Price of the machine per hour; `nan` if it is unknown.
        currency: Currency of that price.
        warnings: Warnings for the reader of the answer.
        verdict: Whether the evidence is sufficient, from selectors that assess it.
        evidence: How well the test set separates the candidates; `None` if unknown.
        evaluation_share: Share of evaluation in the FLOPs of the trials; `nan` if unknown.
        measure: The measure by which candidates are compared.
        cost_unit: The unit of costs.
        candidates: What is known of the candidates beside their curves.
        data_needs: What more data would bring, for the chosen candidate first; empty if the
            selector does not predict curves.
    """

    selector: str
    dataset: str
    n_samples_full: int
    ranking: tuple[RankedModel, ...]
    events: tuple[Event, ...] = ()
    cost_flops: float = 0.0
    cost_fraction: float = 0.0
    cost_seconds: float = math.nan
    price_per_hour: float = math.nan
    currency: str = ""
    warnings: tuple[str, ...] = ()
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    evaluation_share: float = math.nan
    measure: Measure = LOSS
    cost_unit: str = "FLOPs"
    candidates: tuple[Candidate, ...] = ()
    data_needs: tuple[DataNeeds, ...] = ()

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
            task: The selection task.
            entries: All its candidates, with predictions of the measure's errors (for a loss the
                loss itself), which become values of the measure; those whose scores are not finite
                come last.
            events: The basis of the ranking: first one of the kind `ranked_by`, if any.
            verdict: Whether the evidence is sufficient.
        """
        ranking = sorted(entries, key=lambda e: e.score if math.isfinite(e.score) else math.inf)
        names = task.dataset, task.n_samples_full
        if not task.measure.is_loss:
            ranking = [_in_measure(entry, task.measure) for entry in ranking]
        return cls(
            selector,
            *names,
            tuple(ranking),
            events,
            verdict=verdict,
            measure=task.measure,
            candidates=task.candidates,
        )

    @property
    def cost_money(self) -> float:
        """Price of `cost_seconds`; `nan` if it is unknown."""
        return self.cost_seconds * self.price_per_hour / 3600.0

    @property
    def best(self) -> RankedModel:
        """The candidate to fine-tune."""
        return self.ranking[0]

    @property
    def best_arms(self) -> tuple[RankedModel, ...]:
        """The first candidate of each model in the ranking; all of them if none has several."""
        firsts: dict[str, RankedModel] = {}
        for entry in self.ranking:
            firsts.setdefault(self.candidate(entry.model).base_model, entry)
        return tuple(firsts.values())

    def candidate(self, name: str) -> Candidate:
        """What is known of a candidate of the ranking; its name alone if it was left out."""
        return self._by_name.get(name, Candidate(name))

    @cached_property
    def _by_name(self) -> dict[str, Candidate]:
        return {candidate.name: candidate for candidate in self.candidates}


def _in_measure(entry: RankedModel, measure: Measure) -> RankedModel:
    """A candidate with predictions of the measure in place of its errors."""
    value, *ends = map(measure.of_error, (entry.predicted_loss, entry.lower80, entry.upper80))
    lower, upper = sorted(ends)
    return replace(entry, predicted_loss=value, lower80=lower, upper80=upper)
