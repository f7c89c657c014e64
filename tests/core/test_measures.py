import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from lensllm.core.measures import (
    LOSS,
    LOSS_PER_BYTE,
    LOSSES,
    MEASURES,
    RESERVED,
    measure_named,
    recorded_measure,
)
from lensllm.core.points import losses_by_size
from lensllm.core.task import Candidate
from lensllm.core.trials import MeasureValue, Trial, TrialResult, results_table
from lensllm.predictors.table import LossTable

ACCURACY = MEASURES["accuracy"]


def result(n_samples, loss, per_byte=math.nan, **measures):
    trial = Trial("a", "demo", n_samples)
    return TrialResult(trial, "completed", loss, test_loss_per_byte=per_byte, measures=measures)


def test_each_loss_is_a_field_of_a_result_and_a_column_of_its_curves():
    results = [result(200, 3.0, 0.75), result(400, 2.0, 0.5)]
    table = results_table(results)
    for measure in LOSSES:
        assert {measure.column, measure.error_column} <= set(table)
        assert measure_named(measure.name) is measure
    assert losses_by_size(table, LOSS) == {"a": {200: 3.0, 400: 2.0}}
    assert losses_by_size(table, LOSS_PER_BYTE) == {"a": {200: 0.75, 400: 0.5}}
    assert [results[0].value(measure) for measure in LOSSES] == [3.0, 0.75]


def test_other_measures_are_columns_and_selectors_see_their_errors():
    results = [
        result(200, 3.0, accuracy=MeasureValue(0.6, 0.049, 100)),
        result(400, 2.0, accuracy=MeasureValue(1.0, 0.0, 100)),
        result(800, 2.0),
    ]
    table = results_table(results, examples=True)
    assert table["accuracy"].tolist()[:2] == [0.6, 1.0]
    assert table["accuracy_se"].tolist()[0] == 0.049
    seen = losses_by_size(table, ACCURACY)["a"]
    assert (seen[200], seen[400]) == (pytest.approx(0.4), 0.005)  # half an example of a hundred
    assert math.isnan(seen[800])
    assert results[0].value(ACCURACY) == 0.6
    known = LossTable.from_curves([Candidate("a")], table, ACCURACY)
    # no example wrong is no proof: the error's standard error is above it, not 0
    assert known.error[0].tolist() == pytest.approx([0.049 / 0.4, math.sqrt(0.5) * 0.01 / 0.005])
    assert losses_by_size(results_table([result(200, 3.0)]), ACCURACY)["a"].keys() == {200}


@pytest.mark.parametrize("given", ["accuracy", "bleu", {"name": "wer", "direction": "lower"}])
def test_errors_are_positive_and_go_back_to_values_within_the_bounds(given):
    measure = measure_named(given)
    scale = 100.0 if given == "bleu" else 1.0
    values = scale * np.linspace(0.0, 1.0, 11)
    errors = [measure.error(value, 50) for value in values]
    assert min(errors) > 0
    ordered = np.argsort(errors, kind="stable")
    assert (np.diff(values[ordered]) <= 0).all() == (measure.direction == "higher")
    back = [measure.of_error(error) for error in errors]
    assert np.allclose(back, values, atol=0.5 * scale / 50 + 1e-12)
    assert all(value <= measure.bound for value in back) == (measure.direction == "higher")
    assert measure.of_error(1e9) == (0.0 if measure.direction == "higher" else 1e9)
    assert measure.best_of({"x": 0.2, "y": 0.4}) == ("y" if measure.direction == "higher" else "x")


def test_a_measure_of_ones_own_has_a_bound_and_a_direction_and_comes_back_from_a_record():
    wer = measure_named({"name": "wer", "direction": "lower"})
    assert (wer.bound, wer.column, wer.superlative) == (0.0, "wer", "smallest")
    function = measure_named("my_scores:brevity")
    assert (function.bound, function.direction, function.label) == (1.0, "higher", "brevity")
    for measure in (wer, function, ACCURACY, LOSS):
        record = {
            "measure": measure.name, "bound": measure.bound, "direction": measure.direction
        }  # fmt: skip
        assert recorded_measure(record) == measure
    assert recorded_measure({"measure": "loss"}) == LOSS  # older files have the name alone


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("byte", "`measure` to be one of loss, loss_per_byte, accuracy.* got 'byte'"),
        ("acuracy", "got 'acuracy': did you mean accuracy?"),
        ("rougel", "did you mean rouge_l?"),
        ({"name": "seconds"}, "another name for a measure than 'seconds', which is taken"),
        ({"name": "loss", "bound": 1}, "another name for a measure than 'loss'"),
        ({"name": "wer", "direction": "down"}, "lower or higher of wer, got 'down'"),
        ({"name": "wer", "bound": math.inf}, "finite number as the bound of wer, got inf"),
        ({"name": "wer", "goal": 1}, "with a name, and perhaps bound and direction, got"),
        ({"name": "a b"}, "with a name, and perhaps bound and direction, got"),
    ],
)
def test_an_unknown_measure_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        measure_named(given)


def test_a_value_beyond_the_bound_is_refused_and_no_column_is_taken_twice():
    for value in (1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"finite accuracy <= 1, got {value}"):
            ACCURACY.check(value)
    taken = {item.name for kind in (Trial, TrialResult) for item in fields(kind)}
    assert taken <= set(RESERVED)


def test_curves_without_the_measure_are_refused():
    table = pd.DataFrame({"model": ["a"], "n_samples": [200], "test_loss": [3.0]})
    LOSS.require(table, "the table")
    with pytest.raises(ValueError, match="column 'test_loss_per_byte' in the table for measure="):
        LOSS_PER_BYTE.require(table, "the table")
    with pytest.raises(ValueError, match="got none of 'a' at n_samples = 200"):
        LOSS_PER_BYTE.require(table.assign(test_loss_per_byte=math.nan), "the table")
