import numpy as np
import pytest

from lensllm.prehoc.process import SyntheticProcess


def test_the_bayes_predictor_has_the_risk_of_the_law(draw):
    runs = draw(20_000, 1)
    process = SyntheticProcess()
    errors = (runs.probes - runs.outcomes[:, None]) ** 2
    np.testing.assert_allclose(errors.mean(0), process.law(runs.costs), rtol=0.04)
    assert runs.outcomes.var() == pytest.approx(process.outcome_variance, rel=0.04)
    before = ((runs.static[:, 0] - runs.outcomes) ** 2).mean()
    assert before == pytest.approx(process.law.static_risk, rel=0.04)


def test_later_probes_know_all_that_earlier_ones_did(draw):
    runs = draw(20_000, 1)
    error = runs.outcomes - runs.probes[:, -1]
    for k in range(len(runs.costs)):
        assert abs(np.corrcoef(error, runs.probes[:, k])[0, 1]) < 0.03


def test_a_law_that_leaves_more_than_there_is_is_refused(draw):
    with pytest.raises(ValueError, match=r"Expected `reducible` >= 0.1585.* c = 0.01, got 0.05"):
        draw(reducible=0.05)
    with pytest.raises(ValueError, match="`decay` > 0, got 0"):
        SyntheticProcess(decay=0)
