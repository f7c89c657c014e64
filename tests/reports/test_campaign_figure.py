from lensllm.reports.campaign_figure import campaign_figure

DECISIONS = (
    "start with D = 200 of a/x, b: 0.3 % of full tuning",
    "ran a/x at D = 0: test loss 4.0000",
    "ran a/x at D = 200: test loss 3.0000",
    "ran b at D = 200: diverged",
    "stopped b: P(best) 0.001 after D = 200",
    "stopped a/x: P(best) 0.002 after D = 200",
    "a/x is back in play",
    "next a/x at D = 400: expected fall in regret 0.01 nats for 1 % of full tuning",
    "ran a/x at D = 400: test loss 2.0000",
)


def test_marks_are_the_trials_and_words_say_who_is_stopped():
    (axes, _) = campaign_figure(DECISIONS, ["a/x", "b"]).axes
    (marks,) = axes.collections
    assert marks.get_offsets().tolist() == [[200, 0], [200, -1], [400, 0]]
    assert marks.get_array().tolist() == [0, 1, 2]
    assert [text.get_text() for text in axes.texts] == ["× P(best) 0.001", "★ chosen"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "b"]


def test_no_figure_without_a_story():
    assert campaign_figure(DECISIONS[:4], ["a/x", "b"]) is None
    assert campaign_figure((), ["a"]) is None
