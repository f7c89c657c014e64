"""The events of a campaign and the basis of its answer, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lensllm.core.events import (
    CHOSEN_OTHERWISE,
    KNOWN,
    LEFT_OUT,
    OUT_OF_TIME,
    PREPARED,
    RAN,
    RANKED_BY,
    RESUMED,
    SET_ASIDE,
    STOPPED,
    Event,
)
from lensllm.core.measures import LOSS, Measure
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.trials import TrialResult
from lensllm.reports.quantities import MEASURABLE

MAX_NAMES = 6
VERDICTS = {
    "clear": "Clear choice",
    "too_close_to_call": "Too close to call",
    "not_enough_evidence": "Not enough evidence yet",
}


def decision_words(selection: Selection) -> list[str]:
    """One sentence per event of a selection, in order, without the basis of the ranking."""
    said: list[str] = []
    known: dict[str, list[str]] = {}
    for event in selection.events:
        if event.kind == KNOWN:
            known.setdefault(event.model, []).append(str(event.n_samples))
            continue
        if known:
            said.append(_paid_before(known))
            known = {}
        if event.kind not in (RANKED_BY, "every_size"):
            said.append(event_words(event, selection.measure))
    return [*said, _paid_before(known)] if known else said


def event_words(event: Event, measure: Measure = LOSS) -> str:
    """One event in words; for an unknown kind, its name and its content."""
    if event.kind == RAN:
        outcome = _outcome(event.reason, event.value, event.message, measure)
        return f"ran {event.model} at D = {event.n_samples}: {outcome}"
    if event.kind in _IN_UNITS:
        return _IN_UNITS[event.kind](event, measure)
    if event.kind in _EVENTS:
        return _EVENTS[event.kind](event)
    parts = [event.model, "" if event.n_samples is None else f"D = {event.n_samples}"]
    parts += [event.reason, event.message, "" if event.value is None else f"{event.value:.4g}"]
    parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in event.numbers.items()]
    return f"{event.kind.replace('_', ' ')}: {', '.join(part for part in parts if part)}"


def outcome_words(result: TrialResult, measure: Measure) -> str:
    """The outcome of one trial."""
    return _outcome(result.status, result.value(measure), result.reason, measure)


def stop_words(event: Event) -> str:
    """Why a candidate was stopped, in a few words for a figure."""
    return event.reason if event.value is None else f"P(best) {event.value:.3f}"


def reason_words(selection: Selection) -> str:
    """The basis of the choice, in one sentence."""
    best = selection.best
    if best.status != "ranked":
        return f"No candidate could be ranked: {best.status}"
    by = next((event for event in selection.events if event.kind == RANKED_BY), None)
    if by is not None and by.reason in _CHOICES:
        words = f"{best.model} {_CHOICES[by.reason](best, by, selection.measure)}"
    else:
        words = _predicted(selection, "" if by is None else _basis(by))
    whole = next((event for event in selection.events if event.kind == "every_size"), None)
    return words if whole is None else f"every size was measured; ranked by {whole.reason}: {words}"


def _predicted(selection: Selection, basis: str) -> str:
    """The best candidate with its prediction, interval and probability, if it has them."""
    best = selection.best
    words = f"{best.model} is ranked first"
    if math.isfinite(best.predicted_loss):
        what = "loss" if selection.measure.is_loss else selection.measure.label
        words += f", with a predicted {what} at D = {selection.n_samples_full} of "
        words += f"{best.predicted_loss:.4f}"
    if math.isfinite(best.lower80):
        words += f" (80 % interval {best.lower80:.4f} to {best.upper80:.4f})"
    return words + (f", by {basis}" if basis else "") + _chance(best)


def _chance(best: RankedModel) -> str:
    if not math.isfinite(best.p_best):
        return ""
    return f"; probability of being the best candidate {best.p_best:.0%}"


def _basis(by: Event) -> str:
    """The basis of the predictions."""
    known = _BASES.get(by.reason)
    if known is not None:
        return known.format(n_samples=by.n_samples, message=by.message, **by.numbers)
    return by.message or by.reason.replace("_", " ")


# Bases of predictions, as formats of an event's message and numbers.
_BASES = {
    "last_line": "a log-log line through its last {n_points:.0f} points",
    "accepted_line": (
        "a log-log line through the points that AtS accepted (k = {k:.0f}, delta = {delta:g})"
    ),
    "law": "the {message} law fitted to its points",
    "pooled": "{n_models:.0f} candidates predicted together from all curves",
    "pooled_earlier": (
        "{n_models:.0f} candidates predicted together from all curves and where {n_known:.0f} "
        "candidates ended on earlier tasks"
    ),
    "posterior": "{n_models:.0f} candidates' curves predicted together",
    "lensllm": (
        "the LensLLM law of the accepted points (gamma = {gamma:.0f}, tau = {tau:g}, {message}, "
        "kappa = {kappa:g})"
    ),
}
# Bases of choices without a prediction, which follow the name of the best candidate.
_CHOICES: dict[str, Callable[[RankedModel, Event, Measure], str]] = {
    "measured": lambda best, by, measure: (
        f"has the {_best_at(measure, by.n_samples)}: {measure.words(measure.of_error(best.score))}"
    ),
    "latest": lambda best, by, measure: (
        f"has the {_best_of(measure)}, taken to D = {by.n_samples}: "
        f"{measure.words(measure.of_error(best.score))}{_chance(best)}"
    ),
    "spectra": lambda best, by, measure: (
        f"has the smallest {by.message} of its weight spectra: {best.score:.4f}"
    ),
    "other_datasets": lambda best, by, measure: (
        f"has the largest mean relative accuracy on the other data sets: {-best.score:.3f}"
    ),
    "n_params": lambda best, by, measure: f"has the most parameters: {math.exp(-best.score):.4g}",
    "random": lambda best, by, measure: "was drawn at random",
}


def _best_of(measure: Measure, where: str = "") -> str:
    """The smallest loss, or the largest accuracy."""
    what = "loss" if measure.is_loss else measure.label
    return f"{measure.superlative} {where}{what}"


def _best_at(measure: Measure, n_samples: int | None) -> str:
    """The same at one size, which is 0 before fine-tuning."""
    return (
        f"{_best_of(measure)} at D = {n_samples}" if n_samples else _best_of(measure, "zero-shot ")
    )


def _outcome(status: str, value: float | None, message: str, measure: Measure) -> str:
    if status == "completed":
        return f"{measure.label} {math.nan if value is None else value:.4f}"
    return f"failed: {message}" if status == "failed" else status.replace("_", " ")


def _paid_before(known: dict[str, list[str]]) -> str:
    points = "; ".join(f"{model} at D = {', '.join(n)}" for model, n in known.items())
    return f"already paid, and not charged: {points}"


def _stopped(event: Event) -> str:
    why = f"{event.reason}, {event.message}"
    if event.value is not None:
        why = f"{stop_words(event)} after D = {event.n_samples}"
    return f"stopped {event.model}: {why}"


def _next(event: Event, measure: Measure) -> str:
    trials = f"next {_names(event.trials)} at {_sizes(event.trials)}"
    if event.reason == "no_usable_trial":
        return f"{trials}: no usable trial so far"
    if event.reason == "second_size":
        return f"{trials}: a second size of those in front; {_now(event, measure)}"
    return f"next {_plan(event, measure)}; {_now(event, measure)}"


def _ended(event: Event, measure: Measure) -> str:
    """Why a selector asks for no more trials."""
    if event.reason == "all_failed":
        return "no more trials: every candidate failed"
    numbers = event.numbers
    left = f"{percent(numbers['left_fraction'])} of full tuning left"
    if event.reason == "alone":
        why = f"nobody else has a chance (P(best) of {event.model} {event.value:.3f}), {left}"
    elif event.reason == "all_run":
        why = "every trial of those with a chance was run"
    elif event.reason == "unaffordable":
        why = f"none is affordable with the {left}"
    else:
        price = " for its price" if event.reason == "price" else ""
        why = f"none would change the choice{price}, with {left}"
        if numbers["gain"] >= MEASURABLE:
            why += f"; the best was {_plan(event, measure)}"
    return f"no more trials: {why}; {_now(event, measure)}"


def _now(event: Event, measure: Measure) -> str:
    regret = f"{event.numbers['expected_regret']:.2g} {measure.difference_unit}"
    return f"choosing {event.model} now is expected to lose {regret} by the curves alone"


def _plan(event: Event, measure: Measure) -> str:
    """The trials of a plan, its expected gain and its cost."""
    numbers = event.numbers
    then = ""
    if "then_count" in numbers:
        then = f", then the best {numbers['then_count']:.0f} at D = {numbers['then_n_samples']:.0f}"
    return (
        f"{_names(event.trials)} at {_sizes(event.trials)}{then}: expected fall in regret "
        f"{numbers['gain']:.2g} {measure.difference_unit} for {percent(numbers['cost_fraction'])} "
        "of full tuning"
    )


def _started(event: Event) -> str:
    share = percent(event.numbers["cost_fraction"])
    return f"start with {_sizes(event.trials)} of {_names(event.trials)}: {share} of full tuning"


def _line(event: Event) -> str:
    n = event.numbers
    return (
        f"{event.model}: line through {n['n_points']:.0f} points, D = {n['smallest']:g} to "
        f"{n['largest']:g}"
    )


def _lensllm_law(event: Event) -> str:
    n = event.numbers
    return (
        f"{event.model}: law through {n['n_points']:.0f} points from D = {n['smallest']:.0f} to "
        f"{n['largest']:.0f}, kappa F = {n['ntk_term']:.3g}, {n['ntk_share']:.0%} of its "
        "denominator at the smallest"
    )


def _pooled(event: Event) -> str:
    n = event.numbers
    return (
        f"shared exponent {n['exponent']:.2f}; levels revert by {n['reversion']:.1%} per doubling; "
        f"errors per doubling {n['rate_spread']:.1%} for one candidate, {n['bias_spread']:.1%} for "
        "all together"
    )


def _otherwise(event: Event, measure: Measure) -> str:
    return f"ranked by {event.reason} instead of {measure.label}, {event.model} would be first"


# Events with numbers in the unit of the measure.
_IN_UNITS: dict[str, Callable[[Event, Measure], str]] = {
    "next": _next,
    "ended": _ended,
    CHOSEN_OTHERWISE: _otherwise,
}
_EVENTS: dict[str, Callable[[Event], str]] = {
    LEFT_OUT: lambda event: f"left out {event.model}: {event.message}",
    PREPARED: lambda event: f"{event.value:.3g} FLOPs before the first trial",
    OUT_OF_TIME: lambda event: (
        f"no more trials: none is expected to fit into the {event.value:.3g} {event.message} left"
    ),
    SET_ASIDE: lambda event: f"set aside {event.model}: {event.message}",
    RESUMED: lambda event: f"{event.model} is back in play",
    STOPPED: _stopped,
    "started": _started,
    "line": _line,
    "lensllm_law": _lensllm_law,
    "ntk_scale": lambda event: f"ntk_scale = {event.value:g}{event.reason and ', fitted'}",
    "pooled": _pooled,
    "trained": lambda event: f"{event.model}: trained up to D = {event.n_samples}",
    "fit_warning": lambda event: f"{event.model}: {event.message}",
}


def percent(share: float) -> str:
    """Two digits: 1.3 %."""
    return f"{100 * share:.2g} %"


def _names(pairs: Sequence[tuple[str, int]]) -> str:
    """Distinct names, the first few of many."""
    distinct = list(dict.fromkeys(model for model, _ in pairs))
    if len(distinct) <= MAX_NAMES:
        return ", ".join(distinct)
    return f"{', '.join(distinct[: MAX_NAMES - 1])} and {len(distinct) - MAX_NAMES + 1} more"


def _sizes(pairs: Sequence[tuple[str, int]]) -> str:
    """D = 200, or D = 200 to 800."""
    sizes = [n for _, n in pairs]
    low, high = min(sizes), max(sizes)
    return f"D = {low}" if low == high else f"D = {low} to {high}"
