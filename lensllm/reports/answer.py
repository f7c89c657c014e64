"""The answer of a campaign in words: one or two sentences, and labelled notes below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lensllm.core.events import KNOWN
from lensllm.core.evidence import CLOSE
from lensllm.core.measures import Measure
from lensllm.core.selection import Selection, Verdict
from lensllm.reports.amounts import duration, money
from lensllm.reports.data_words import data_words
from lensllm.reports.leaderboard import SmallerModel, measured_in_full, nearly_as_good
from lensllm.reports.quantities import MEASURABLE, saving, share

MAX_NAMED = 6


@dataclass(frozen=True)
class Answer:
    """The answer in words; terminal, report, trackers and model card show the same ones.

    Attributes:
        sentence: Which model to fine-tune, how probably it is the best, and the verdict with its
            reason; at most two sentences.
        notes: What else there is to know, as pairs of a label and a text.
    """

    sentence: str
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def lines(self) -> list[str]:
        """The sentence, and a line for each note."""
        return [self.sentence, *(f"  {label}: {text}" for label, text in self.notes)]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def answer_of(selection: Selection, curves: pd.DataFrame) -> Answer:
    """The answer of a selection in words.

    Args:
        selection: The answer as data.
        curves: Tidy table of the campaign's trials.
    """
    best, verdict = selection.best, selection.verdict
    if best.status != "ranked":
        return Answer(
            f"No candidate could be ranked on {selection.dataset}: {best.status}.",
            (("Spent", _cost(selection)), *_warnings(selection)),
        )
    notes = _values(selection, curves)
    if verdict is not None:
        notes += _standing(selection, verdict, curves)
    if (smaller := nearly_as_good(selection, curves)) is not None:
        label = "Faster model" if smaller.size == "latency_ms" else "Smaller model"
        notes.append((label, _smaller(smaller, selection.measure)))
    notes += [
        ("More data", data_words(needs).removesuffix(".")) for needs in selection.data_needs[:1]
    ]
    notes.append(("Spent", _cost(selection)))
    return Answer(_sentence(selection), (*notes, *_test_set(selection), *_warnings(selection)))


def _sentence(selection: Selection) -> str:
    """Which model, how probably it is the best, and the verdict with its reason."""
    if len(selection.ranking) == 1:
        text = f"There is nothing to choose: {selection.best.model} is the only candidate for "
        known = math.isfinite(selection.best.predicted_loss)
        more = f" What follows is a forecast of its {selection.measure.label}." if known else ""
        return f"{text}{selection.dataset}.{more}"
    verdict = selection.verdict
    is_open = verdict is not None and verdict.kind == "not_enough_evidence"
    text = f"{'For now, f' if is_open else 'F'}ine-tune {selection.best.model} on "
    text += f"{selection.dataset}{_chance(selection)}."
    return text if verdict is None else f"{text} {_verdict(selection, verdict)}."


def _verdict(selection: Selection, verdict: Verdict) -> str:
    """The verdict and its reason."""
    if verdict.kind == "clear":
        return "The choice is clear: no other model is likely to be better"
    names, measure = listed(verdict.contenders), selection.measure
    lost = f"this choice is expected to lose {_regret(selection, verdict.expected_regret)}"
    if verdict.kind == "not_enough_evidence":
        return f"Not enough evidence yet to tell {names} apart: {lost}"
    if verdict.expected_regret <= CLOSE * measure.error(selection.best.predicted_loss):
        lost += f", at most {share(CLOSE)} of its {'loss' if measure.is_loss else 'error'}"
    return f"Too close to call between {names}: {lost}"


def _chance(selection: Selection) -> str:
    """The probability of being best: of the model, and of its chosen arm if it has several."""
    best, n_models = selection.best, len(selection.best_arms)
    if not math.isfinite(best.p_best):
        return f"; {selection.selector} gives no probability of being right"
    if n_models == len(selection.ranking):
        return f": it is the best of {n_models} with probability {best.p_best:.2f}"
    model = selection.candidate(best.model).base_model
    own = [
        entry.p_best
        for entry in selection.ranking
        if selection.candidate(entry.model).base_model == model and math.isfinite(entry.p_best)
    ]
    if n_models == 1:
        return (
            f": these settings of it are the best of {len(own)} with probability {best.p_best:.2f}"
        )
    text = f": {model} is the best of {n_models} models with probability {sum(own):.2f}"
    return text if len(own) < 2 else f"{text}, with these settings {best.p_best:.2f}"


def _values(selection: Selection, curves: pd.DataFrame) -> list[tuple[str, str]]:
    """What was measured of the best candidate at D_full, if it was, and what is predicted."""
    best, notes = selection.best, []
    measured = measured_in_full(selection, best.model, curves)
    if math.isfinite(measured):
        notes.append(("Measured", _at_full(selection, measured)))
    elif math.isfinite(best.predicted_loss):
        text = _at_full(selection, best.predicted_loss)
        if math.isfinite(best.lower80):
            text += f" (80 % interval {best.lower80:.3f} to {best.upper80:.3f})"
        notes.append(("Predicted", text))
    return notes


def _at_full(selection: Selection, value: float) -> str:
    """The measure and a value: test loss 2.345 nats at D = 800, accuracy 0.830 at D = 800."""
    unit = " nats" if selection.measure.is_loss else ""
    return f"{selection.measure.label} {value:.3f}{unit} at D = {selection.n_samples_full}"


def _standing(
    selection: Selection, verdict: Verdict, curves: pd.DataFrame
) -> list[tuple[str, str]]:
    """The contenders, the settings that are open, and what the next trial would bring."""
    notes = []
    if verdict.kind != "clear":
        notes.append(("Contenders", _contenders(selection, verdict)))
    if verdict.arm_regret > CLOSE * selection.measure.error(selection.best.predicted_loss):
        text = "which settings of this model are best is open: these are expected to lose "
        text += f"{_regret(selection, verdict.arm_regret)} against the best of them"
        notes.append(("Settings", text))
    if verdict.kind != "clear" and verdict.next_trial is not None:
        notes.append(("Next trial", _next(selection, verdict, curves)))
    return notes


def _contenders(selection: Selection, verdict: Verdict) -> str:
    """Their probabilities of being best, each and together."""
    chances = dict.fromkeys(verdict.contenders, 0.0)
    for entry in selection.ranking:
        model = selection.candidate(entry.model).base_model
        if model in chances and math.isfinite(entry.p_best):
            chances[model] += entry.p_best
    each = [f"{model} {chance:.2f}" for model, chance in chances.items()]
    return f"P(best) of {listed(each)}; together {verdict.p_contenders:.2f}"


def is_to_confirm(selection: Selection, curves: pd.DataFrame) -> bool:
    """Whether only fine-tuning the first two in full, which was not done yet, tells more."""
    verdict = selection.verdict
    if verdict is None or verdict.kind == "clear" or _is_worth_more(verdict):
        return False
    first = [measured_in_full(selection, entry.model, curves) for entry in selection.ranking[:2]]
    return not all(map(math.isfinite, first))


def _is_worth_more(verdict: Verdict) -> bool:
    """Whether a further trial below D_full is expected to save something measurable."""
    return verdict.next_trial is not None and verdict.next_gain >= MEASURABLE


def _next(selection: Selection, verdict: Verdict, curves: pd.DataFrame) -> str:
    """The next trial, its cost and its worth."""
    if not _is_worth_more(verdict):
        if not is_to_confirm(selection, curves):
            return f"none would help: the first two were measured at D = {selection.n_samples_full}"
        return (
            "none would help, and neither would more budget: `lensllm finetune "
            "selection=<this folder> confirm=2 output=my-tuned-model` tries two in full"
        )
    assert verdict.next_trial is not None
    model, n_samples = verdict.next_trial
    gain = saving(verdict.next_gain, selection.measure.difference_unit)
    return (
        f"{model} at D = {n_samples}, which costs {share(verdict.next_cost_fraction)} of "
        f"fine-tuning all in full and is expected to save {gain}"
    )


def _regret(selection: Selection, regret: float) -> str:
    return f"{regret:.2g} {selection.measure.difference_unit}"


def _smaller(item: SmallerModel, measure: Measure) -> str:
    """The smaller or faster model that is nearly as good."""
    sign, at_most = (1, "at most") if measure.direction == "lower" else (-1, "at least")
    what = "latency" if item.size == "latency_ms" else "parameters"
    return (
        f"{item.candidate} is nearly as good: {sign * item.difference:+.3f} "
        f"{measure.difference_unit} ({at_most} {sign * item.upper:+.3f} with 90 %) at "
        f"{share(item.share)} of the {what}"
    )


def _cost(selection: Selection) -> str:
    """Time and price of the answer, or else its FLOPs, and their share of full fine-tuning."""
    if selection.cost_flops == 0 and not math.isfinite(selection.cost_seconds):
        is_stored = any(event.kind == KNOWN for event in selection.events)
        return "nothing: all trials were in the store" if is_stored else "nothing"
    parts, them = [], "the FLOPs"
    if math.isfinite(selection.cost_seconds):
        parts.append(duration(selection.cost_seconds))
    else:
        parts.append(f"{selection.cost_flops:.3g} {selection.cost_unit}")
        them = "them"
    if math.isfinite(selection.cost_money):
        parts.append(money(selection.cost_money, selection.currency))
    parts.append(f"{share(selection.cost_fraction)} of fine-tuning every candidate in full")
    text, part = ", ".join(parts), selection.evaluation_share
    return f"{text}; {share(part)} of {them} for evaluation" if math.isfinite(part) else text


def _test_set(selection: Selection) -> list[tuple[str, str]]:
    """How well the test set tells the first two apart; a warning says where that is too little."""
    evidence = selection.evidence
    if evidence is None or evidence.warnings or not evidence.standard_error > 0:
        return []
    text = f"{evidence.n_examples} examples, which tell the first two apart with a standard error "
    return [("Test set", f"{text}of {evidence.standard_error:.2g} {evidence.unit}")]


def _warnings(selection: Selection) -> list[tuple[str, str]]:
    return [("Warning", warning) for warning in selection.warnings]


def listed(names: Sequence[str]) -> str:
    """a, b and c, or the first few of many."""
    if len(names) > MAX_NAMED:
        return f"{', '.join(names[: MAX_NAMED - 1])} and {len(names) - MAX_NAMED + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
