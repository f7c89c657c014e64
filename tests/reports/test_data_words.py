from lensllm.reports.data_words import earlier_words


def test_earlier_tasks_are_named_as_far_as_they_have_these_candidates(make_curves):
    curves = make_curves({"a": {200: 1.0, 400: 0.9}, "x": {200: 1.0}}).assign(dataset="older")
    assert (
        earlier_words(curves, ["a", "b"]) == "earlier tasks: older (2 points of 1 of 2 candidates)"
    )
    assert earlier_words(curves, ["b"]).startswith(
        "earlier tasks: none with one of these candidates"
    )
