import math

import pytest

from lensllm.core.events import Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.reports.words import decision_words, event_words, reason_words

RANKED = (RankedModel("a", 1.5, 1.5, 1.4, 1.6, 0.75), RankedModel("b", 2.0, 2.0, 1.9, 2.1, 0.25))


def selection(*events, ranking=RANKED):
    return Selection("demo", "data", 800, ranking, events)


PLAN = {"gain": 0.0123, "cost_fraction": 0.025, "expected_regret": 0.2}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event("ran", "a", 200, 3.0, "completed"), "ran a at D = 200: test loss 3.0000"),
        (Event("ran", "a", 200, reason="diverged"), "ran a at D = 200: diverged"),
        (
            Event("ran", "a", 200, reason="failed", message="no power"),
            "ran a at D = 200: failed: no power",
        ),
        (Event("stopped", "a", 200, 0.0014, "hopeless"), "stopped a: P(best) 0.001 after D = 200"),
        (
            Event("stopped", "a", reason="breadth", message="6 nats behind"),
            "stopped a: breadth, 6 nats behind",
        ),
        (
            Event("next", "b", reason="gain", trials=(("a", 200), ("b", 400)), numbers=PLAN),
            "next a, b at D = 200 to 400: expected fall in regret 0.012 nats for 2.5 % of full "
            "tuning; choosing b now is expected to lose 0.2 nats by the curves alone",
        ),
        (
            Event("started", trials=(("a", 200),), numbers={"cost_fraction": 0.013}),
            "start with D = 200 of a: 1.3 % of full tuning",
        ),
        (
            Event(
                "ended", "a", value=0.9995, reason="alone", numbers={**PLAN, "left_fraction": 0.5}
            ),
            "no more trials: nobody else has a chance (P(best) of a 1.000), 50 % of full tuning "
            "left; choosing a now is expected to lose 0.2 nats by the curves alone",
        ),
        (
            Event("coin_thrown", "a", 200, 0.5, "fair", numbers={"n_throws": 3}),
            "coin thrown: a, D = 200, fair, 0.5, n throws 3",
        ),
    ],
)
def test_an_event_in_words(event, words):
    assert event_words(event) == words


def test_trials_that_were_paid_before_are_one_sentence():
    said = decision_words(
        selection(
            Event("ranked_by", reason="law", message="vanilla"),
            Event("known", "a", 200),
            Event("known", "b", 200),
            Event("known", "a", 400),
            Event("ran", "b", 400, 1.0, "completed"),
        )
    )
    assert said == [
        "already paid, and not charged: a at D = 200, 400; b at D = 200",
        "ran b at D = 400: test loss 1.0000",
    ]


def test_the_reason_is_the_choice_with_what_it_rests_on():
    first = "a is ranked first, with a predicted loss at D = 800 of 1.5000"
    first += " (80 % interval 1.4000 to 1.6000)"
    last = "; probability of being the best candidate 75%"
    assert reason_words(selection()) == first + last
    law = Event("ranked_by", reason="law", message="vanilla")
    assert reason_words(selection(law)) == f"{first}, by the vanilla law fitted to its points{last}"
    own = Event("ranked_by", reason="my_rule")
    assert reason_words(selection(own)) == f"{first}, by my rule{last}"
    at = Event("ranked_by", reason="measured", n_samples=0)
    assert (
        reason_words(selection(at))
        == "a has the smallest zero-shot loss: 1.5000 nats per target token"
    )
    none = (RankedModel("a", float("nan"), status="no usable trial"),)
    assert reason_words(selection(ranking=none)) == "No candidate could be ranked: no usable trial"


def test_an_event_as_json_leaves_out_what_is_empty():
    event = Event("next", "b", trials=(("a", 200),), numbers={"gain": 0.1})
    assert event.to_json() == {
        "kind": "next",
        "model": "b",
        "trials": [["a", 200]],
        "numbers": {"gain": 0.1},
    }
    assert Event("ran", "a", 0, 0.0).to_json() == {
        "kind": "ran",
        "model": "a",
        "n_samples": 0,
        "value": 0.0,
    }
    nothing = Event("next", value=math.inf, numbers={"gain": math.nan}).to_json()
    assert nothing == {"kind": "next", "value": None, "numbers": {"gain": None}}
