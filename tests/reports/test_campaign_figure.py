import itertools
from dataclasses import replace

import pytest

from lensllm.core.measures import MEASURES
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.trials import Trial, TrialResult, results_table
from lensllm.reports.campaign_figure import campaign_figure
from lensllm.reports.style import OTHER, PALETTE

NAMES = ["org/a", "b", "c", "d", "e", "f$x$"]


@pytest.fixture
def curves():
    return results_table(
        [
            TrialResult(Trial(name, "toy", n), "completed", test_loss=3.0 + i - n / 1000, flops=1.0)
            for i, name in enumerate(NAMES)
            for n in (200, 400)
        ]
    )


@pytest.fixture
def selection():
    ranking = [
        RankedModel(n, i, 2.0 + i, 1.9 + i, 2.1 + i, 0.5 / (i + 1)) for i, n in enumerate(NAMES)
    ]
    verdict = Verdict("too_close_to_call", ("f$x$", "org/a"), 0.9, 0.1)
    return Selection("toy", "toy", 800, tuple(ranking), cost_fraction=0.24, verdict=verdict)


def test_it_says_which_how_sure_and_for_how_much(selection, curves):
    figure = campaign_figure(selection, curves)
    bar, panel = figure.axes
    title = figure.get_suptitle()
    assert title == "Too close to call: fine-tune a, the best of 6 with probability 0.50"
    assert bar.get_title("left").startswith("cost: 24 % of fine-tuning all 6 candidates")
    full, *spent = [patch.get_width() for patch in bar.patches]
    assert full == 100
    assert spent == pytest.approx([4.0] * 6)
    labels = {text.get_text(): text.get_color() for text in panel.texts}
    assert labels["a  0.50"] == PALETTE[0]
    assert labels["f\\$x\\$  0.08"] == PALETTE[1]  # a contender, though last in the ranking
    assert len(labels) == len(PALETTE) + 1
    heights = sorted(text.get_position()[1] for text in panel.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.05
    assert sum(line.get_color() == OTHER for line in panel.lines) == 2  # one curve, one prediction


def test_a_clear_choice_needs_no_caveat(selection, curves):
    figure = campaign_figure(replace(selection, verdict=None), curves)
    assert figure.get_suptitle() == "Fine-tune a, the best of 6 with probability 0.50"


def test_a_measure_of_which_more_is_better_has_a_linear_axis(selection, curves):
    ranking = [
        RankedModel(name, 0.1 + i / 10, 0.9 - i / 10, 0.8 - i / 10, 1.0 - i / 10, 0.5 / (i + 1))
        for i, name in enumerate(NAMES)
    ]
    told = replace(selection, ranking=tuple(ranking), measure=MEASURES["accuracy"])
    table = curves.assign(accuracy=0.5 - curves["test_loss"] / 20)
    _, panel = campaign_figure(told, table).axes
    assert (panel.get_yscale(), panel.get_ylabel()) == ("linear", "accuracy")
    low, high = panel.get_ylim()
    places = {text.get_text(): text.get_position()[1] for text in panel.texts}
    assert places["a  0.50"] == pytest.approx((0.9 - low) / (high - low))


def test_there_is_none_without_a_point(selection, curves):
    assert campaign_figure(selection, curves[curves["n_samples"] == 0]) is None
