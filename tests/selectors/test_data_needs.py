import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lensllm.core.data_needs import DataNeeds
from lensllm.core.selection import RankedModel
from lensllm.laws import RectifiedLaw
from lensllm.reports.answer import answer_of
from lensllm.reports.selection_report import selection_record
from lensllm.selectors import Adaptive, LawExtrapolation, ZeroShot
from lensllm.selectors.data_needs import with_data_needs

SIZES = (200, 400, 800, 1600, 3200)


def loss(name, n):
    return {"a": 1.0, "b": 1.1, "c": 3.0}[name] + 20 * n**-0.5


@pytest.fixture
def task(make_task):
    return make_task("abc", sizes=SIZES, full=6400)


@pytest.fixture
def curves(make_curves):
    table = make_curves({name: {n: loss(name, n) for n in SIZES} for name in "abc"})
    return table.assign(test_loss_se=0.02, status="completed", flops=1.0)


def answer(selector, task, curves, **options):
    return with_data_needs(selector.rank(task, curves), selector, task, curves, **options)


@pytest.mark.parametrize("selector", [Adaptive(), LawExtrapolation(RectifiedLaw())])
def test_twice_the_data_and_a_wanted_loss_are_foreseen(selector, task, curves):
    selection = answer(selector, task, curves, target_loss=1.2)
    needs = selection.data_needs[0]
    assert needs.model == "a"
    truth = loss("a", 12800)
    assert needs.twice_loss.lower80 <= truth <= needs.twice_loss.upper80
    assert needs.twice_loss.middle == pytest.approx(truth, rel=0.1)
    assert needs.twice_gain.middle == pytest.approx(loss("a", 6400) - truth, abs=0.05)
    assert needs.n_for_target.lower80 <= (20 / 0.2) ** 2 <= needs.n_for_target.upper80
    assert needs.standard_error == pytest.approx(0.02 / loss("a", 3200) * loss("a", 6400), rel=0.05)


def test_draws_agree_with_the_prediction_of_the_full_size(task, curves):
    """The oracle: the ranking's own prediction and interval, from other draws."""
    selector = Adaptive()
    best = selector.rank(task, curves).best
    _, measured = selector.curve_draws(task, curves, best.model, np.array([3200, 6400]), 4000)
    low, high = np.quantile(measured[:, 1], (0.1, 0.9))
    assert np.exp(np.log(measured[:, 1]).mean()) == pytest.approx(best.predicted_loss, rel=2e-3)
    assert (low, high) == pytest.approx((best.lower80, best.upper80), rel=5e-3)


def test_more_data_goes_on_from_a_loss_that_was_measured_in_full(task, curves):
    full = curves[curves["n_samples"] == 3200].assign(
        n_samples=6400, test_loss=0.8 * loss("a", 6400)
    )
    selection = answer(Adaptive(), task, pd.concat([curves, full]))
    assert selection.best.predicted_loss == pytest.approx(0.8 * loss("a", 6400))
    needs = selection.data_needs[0]
    left = selection.best.predicted_loss - needs.twice_loss.middle
    assert needs.twice_gain.middle == pytest.approx(left)
    assert left > 0


def test_it_is_said_in_a_note_and_written(task, curves):
    selection = answer(Adaptive(), task, curves, target_loss=0.5)
    sentence = dict(answer_of(selection, curves).notes)["More data"]
    assert "With twice the data (D = 12800), a is expected to reach 1.1" in sentence
    assert "a loss of 0.5 takes more than D = 51200" in sentence
    assert "each doubling brings more than the standard error of the test set (0.0" in sentence
    record = json.loads(json.dumps(selection_record(selection, curves, {}, {}), allow_nan=False))
    first = record["data_needs"][0]
    assert first["n_for_target"] == {"middle": None, "lower80": None, "upper80": None}
    assert first["twice_loss"]["middle"] == selection.data_needs[0].twice_loss.middle
    assert DataNeeds.from_json(first) == selection.data_needs[0]


def test_selectors_without_a_curve_say_nothing(task, curves):
    assert answer(ZeroShot(), task, curves.assign(n_samples=0)).data_needs == ()
    failed = tuple(
        RankedModel(name, math.nan, status="failed: it is no model") for name in ("x", "y")
    )
    nothing = replace(Adaptive().rank(task, curves), ranking=failed)
    assert with_data_needs(nothing, Adaptive(), task, curves) == nothing
    few = curves[curves["n_samples"] <= 400]
    law = LawExtrapolation(RectifiedLaw())
    assert with_data_needs(Adaptive().rank(task, few), law, task, few).data_needs == ()


def test_of_many_candidates_those_in_front_are_predicted(make_task, make_curves, monkeypatch):
    names = [f"m{i}" for i in range(60)]
    many = make_task(names, sizes=SIZES, full=6400)
    table = make_curves({name: {200: 3.0 + i / 60} for i, name in enumerate(names)})
    seen = []

    def curve_draws(self, task, curves, model, sizes, n_draws):
        seen.append(task.names)

    monkeypatch.setattr(Adaptive, "curve_draws", curve_draws)
    assert answer(Adaptive(), many, table).data_needs == ()
    assert {len(given) for given in seen} == {40}
    assert "m0" in seen[0]


def test_nothing_is_said_of_measures_that_are_no_losses(task, curves, caplog):
    selection = Adaptive().rank(task, curves)
    other = replace(task, measure=replace(task.measure, name="accuracy", per="example"))
    assert with_data_needs(selection, Adaptive(), other, curves, 0.9) == selection
    assert "No size for target_loss: candidates are ranked by accuracy" in caplog.text


def test_an_answer_is_not_lost_by_an_error(task, curves, caplog):
    selection = Adaptive().rank(task, curves)
    other = replace(task, candidates=task.candidates[1:])
    assert with_data_needs(selection, Adaptive(), other, curves) == selection
    assert "What more data would bring is not known" in caplog.text
