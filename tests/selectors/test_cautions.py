import pytest

from lensllm.core.selection import RankedModel, Selection
from lensllm.selectors.cautions import prediction_warnings


@pytest.mark.parametrize(
    ("points", "warning"),
    [
        ({"a": {200: 1.0}, "b": {200: 1.2}}, "every candidate was measured at one size only"),
        ({"a": {0: 4.0, 400: 1.0}, "b": {200: 1.2}}, "every candidate was measured at one size"),
        ({"a": {200: 1.0, 400: 0.9}, "b": {200: 1.2}}, None),
        ({"a": {200: 1.0, 800: 0.25}, "b": {200: 1.2}}, "falls by 50 % with each doubling"),
        ({"a": {200: 1.0, 800: 0.25, 1600: 0.2}, "b": {200: 1.2}}, None),
        ({"a": {200: 1.0, 3200: 0.01}, "b": {200: 1.2}}, None),  # measured, not predicted
    ],
)
def test_answers_whose_numbers_are_a_guess_say_so(make_task, make_curves, points, warning):
    ranking = [RankedModel(m, x, x, 0.9 * x, 1.1 * x, 0.5) for m, x in (("a", 1.0), ("b", 2.0))]
    selection = Selection.of("demo", make_task("ab", full=3200), ranking)
    found = prediction_warnings(selection, make_curves(points))
    assert len(found) == (warning is not None)
    assert warning is None or warning in found[0]
