from lensllm.core.events import Event
from lensllm.reports.campaign_figure import campaign_figure

EVENTS = (
    Event("started", trials=(("a/x", 200), ("b", 200)), numbers={"cost_fraction": 0.003}),
    Event("ran", "a/x", 0, 4.0, "completed"),
    Event("ran", "a/x", 200, 3.0, "completed"),
    Event("ran", "b", 200, reason="diverged"),
    Event("stopped", "b", 200, 0.001, "hopeless"),
    Event("stopped", "a/x", 200, 0.002, "hopeless"),
    Event("resumed", "a/x"),
    Event("ran", "a/x", 400, 2.0, "completed"),
)


def test_marks_are_the_trials_and_words_say_who_is_stopped():
    (axes, _) = campaign_figure(EVENTS, ["a/x", "b"]).axes
    (marks,) = axes.collections
    assert marks.get_offsets().tolist() == [[200, 0], [200, -1], [400, 0]]
    assert marks.get_array().tolist() == [0, 1, 2]
    assert [text.get_text() for text in axes.texts] == ["× P(best) 0.001", "★ chosen"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "b"]


def test_no_figure_without_a_story():
    assert campaign_figure(EVENTS[:4], ["a/x", "b"]) is None
    assert campaign_figure((), ["a"]) is None
