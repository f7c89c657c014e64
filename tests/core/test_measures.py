import math

import pandas as pd
import pytest

from lensllm.core.measures import LOSS, LOSS_PER_BYTE, MEASURES, measure_named
from lensllm.core.points import losses_by_size
from lensllm.core.trials import Trial, TrialResult, results_table


def result(n_samples, loss, per_byte):
    trial = Trial("a", "demo", n_samples)
    return TrialResult(trial, "completed", loss, test_loss_per_byte=per_byte)


def test_each_measure_is_a_field_of_a_result_and_a_column_of_its_curves():
    results = [result(200, 3.0, 0.75), result(400, 2.0, 0.5)]
    table = results_table(results)
    for measure in MEASURES.values():
        assert {measure.column, measure.error_column} <= set(table)
        assert measure_named(measure.name) is measure
    assert losses_by_size(table, LOSS) == {"a": {200: 3.0, 400: 2.0}}
    assert losses_by_size(table, LOSS_PER_BYTE) == {"a": {200: 0.75, 400: 0.5}}
    assert [results[0].value(measure) for measure in (LOSS, LOSS_PER_BYTE)] == [3.0, 0.75]


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="`measure` to be one of loss, loss_per_byte, got 'byte'"):
        measure_named("byte")


def test_curves_without_the_measure_are_refused():
    table = pd.DataFrame({"model": ["a"], "n_samples": [200], "test_loss": [3.0]})
    LOSS.require(table, "the table")
    with pytest.raises(ValueError, match="column 'test_loss_per_byte' in the table for measure="):
        LOSS_PER_BYTE.require(table, "the table")
    with pytest.raises(ValueError, match="got none of 'a' at n_samples = 200"):
        LOSS_PER_BYTE.require(table.assign(test_loss_per_byte=math.nan), "the table")
