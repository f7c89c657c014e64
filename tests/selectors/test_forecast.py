import numpy as np
import pytest
from scipy import stats

from lensllm.core.events import Event
from lensllm.selectors.forecast import Forecast, probabilities_of_best, rank_forecasts


def test_probability_of_best_of_two_normals():
    """Against the closed form P(X < Y) = Φ((μ_y − μ_x) / √(σ_x² + σ_y²))."""
    rng = np.random.default_rng(0)
    x = Forecast(1.0, 0.9, 1.1, rng.normal(0.0, 0.3, 200_000))
    y = Forecast(1.2, 1.1, 1.3, rng.normal(0.2, 0.4, 200_000))
    shares = probabilities_of_best({"x": x, "y": y, "z": "diverged"})
    assert shares["x"] == pytest.approx(stats.norm.cdf(0.2 / 0.5), abs=0.005)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "z" not in shares


def test_no_probability_where_one_forecast_has_no_distribution():
    with_draws = Forecast(1.0, 0.9, 1.1, np.zeros(10))
    assert probabilities_of_best({"x": with_draws, "y": Forecast(1.2)}) == {}


def test_candidates_without_forecast_come_last_with_their_reason(make_task):
    given = {"a": "diverged", "b": Forecast(2.0), "c": Forecast(1.0)}
    by = Event("ranked_by", reason="x")
    ranking = rank_forecasts("demo", make_task("abcd"), given, by).ranking
    assert [e.model for e in ranking] == ["c", "b", "a", "d"]
    assert [e.status for e in ranking[2:]] == ["diverged", "no usable trial"]
    assert np.isnan(ranking[2].predicted_loss)
