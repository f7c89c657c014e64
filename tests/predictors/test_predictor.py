"""The predictor, as the selector asks it, with and without earlier tasks."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.task import Candidate, Task
from lensllm.predictors import CurvePredictor
from lensllm.predictors.earlier import earlier_effects, hints_of
from lensllm.predictors.prior import load_prior

SIZES = (200, 400, 800, 1600, 3200)
FULL = 51200
SLOPES = {"a1": 0.05, "a2": 0.08, "b1": 0.03, "b2": 0.06}


def curves_of(slopes, dataset="demo", sizes=SIZES):
    """log L = 1 - slope · log2(D / 200)."""
    rows = [
        (model, dataset, n, 0, math.exp(1.0 - slope * math.log2(n / 200)), model[0])
        for model, slope in slopes.items()
        for n in sizes
    ]
    columns = ["model", "dataset", "n_samples", "seed", "test_loss", "family"]
    return pd.DataFrame(rows, columns=columns)


def task_of(names, before=None):
    return Task(
        "demo",
        tuple(Candidate(name, 1e6, name[0]) for name in names),
        FULL,
        dict.fromkeys(names, (0, *SIZES)),
        {(name, n): float(n) for name in names for n in (0, *SIZES, FULL)},
        prior_curves=before,
    )


def expected(predictor, slopes, curves, before=None):
    end = predictor.posterior(task_of(slopes, before), curves).expected[:, -1]
    return dict(zip(slopes, np.exp(end), strict=True))


def test_smooth_curves_go_on_as_they_did():
    found = expected(CurvePredictor(), SLOPES, curves_of(SLOPES))
    assert sorted(found, key=found.get) == ["a2", "b2", "a1", "b1"]
    for name, slope in SLOPES.items():
        assert found[name] == pytest.approx(math.exp(1 - slope * 8), rel=0.2)


def test_zero_sizes_and_losses_that_are_not_finite_are_not_used():
    more = curves_of(SLOPES)
    odd = more.head(2).assign(n_samples=[0, 6400], test_loss=[9.0, math.nan])
    with_odd = expected(CurvePredictor(), SLOPES, pd.concat([more, odd]))
    assert with_odd == pytest.approx(expected(CurvePredictor(), SLOPES, more), rel=1e-6)


def test_earlier_tasks_tell_of_what_the_points_leave_open():
    """A candidate that falls off at D_full on an earlier task that this one is like."""
    rng = np.random.default_rng(0)
    slopes = {f"{c}{i}": 0.06 + 0.01 * rng.standard_normal() for c in "ab" for i in range(5)}
    here, before = curves_of(slopes), curves_of(slopes, "before", (*SIZES, 12800, FULL))
    for table in (here, before):
        spread = table["model"].map({name: 0.1 * k for k, name in enumerate(slopes)})
        table["test_loss"] *= np.exp(spread)
    falls = (before["model"] == "b4") & (before["n_samples"] == FULL)
    before.loc[falls, "test_loss"] *= math.exp(-1.0)
    alone = expected(CurvePredictor(), slopes, here)
    given = expected(CurvePredictor(), slopes, here, PriorCurves(before))
    assert given["b4"] < 0.9 * alone["b4"]
    assert given["a0"] == pytest.approx(alone["a0"], rel=0.1)


def test_earlier_tasks_can_be_a_file_and_never_are_the_task_itself(tmp_path):
    path = tmp_path / "curves.csv"
    curves_of({name: 0.1 - slope for name, slope in SLOPES.items()}).to_csv(path, index=False)
    alone = expected(CurvePredictor(), SLOPES, curves_of(SLOPES))
    given = expected(CurvePredictor(), SLOPES, curves_of(SLOPES), PriorCurves.read(path))
    assert given == pytest.approx(alone)


def test_what_earlier_tasks_say_is_computed_once(monkeypatch):
    before = PriorCurves(curves_of(SLOPES, "before"))
    predictor = CurvePredictor()
    first = expected(predictor, SLOPES, curves_of(SLOPES), before)

    def fail(*_):
        raise AssertionError("computed twice")

    monkeypatch.setattr("lensllm.predictors.predictor.earlier_effects", fail)
    assert expected(predictor, SLOPES, curves_of(SLOPES), before) == first
    with pytest.raises(AssertionError, match="computed twice"):  # of other curves nothing is known
        expected(predictor, SLOPES, curves_of(SLOPES), PriorCurves(before.curves))


def test_effects_are_relative_clipped_and_of_known_candidates():
    losses = {"a1": 1.0, "a2": 1.1, "b1": 1.2, "b2": 1.15, "b3": 40.0}
    rows = [
        {"model": m, "dataset": d, "n_samples": n, "seed": 0, "test_loss": x}
        for m, x in losses.items()
        for d in ("x", "y")
        for n in SIZES
        if not (d == "y" and m == "a2")
    ]
    candidates = [Candidate(name) for name in (*losses, "new")]
    effects = earlier_effects(load_prior(), candidates, pd.DataFrame(rows), list(SIZES))
    assert effects.shape == (6, 5, 2)
    assert (effects[5] == 0).all()
    assert (effects[1, :, 1] == 0).all()
    assert (effects[0, :, 0] < effects[1, :, 0]).all()
    assert effects[4].max() < 1.0
    assert hints_of(effects)[0][1].covariance.shape == (2, 2)
    assert not hints_of(effects[..., :0])


def test_what_one_arm_shows_moves_the_others_of_its_model(make_task, make_curves):
    """All have one point alike; a second one shows that a1 is better than was expected."""
    names = ("a1", "a2", "b1", "b2")
    task = make_task(names, sizes=(200, 400, 800), full=3200)
    arms = replace(
        task, candidates=tuple(replace(c, base_model=c.name[0]) for c in task.candidates)
    )
    points = {name: {200: 4.0} for name in names}
    seen = make_curves({**points, "a1": {200: 4.0, 800: 3.0}})
    before = CurvePredictor().posterior(arms, make_curves(points)).expected[:, -1]
    fall = before - CurvePredictor().posterior(arms, seen).expected[:, -1]
    assert fall[0] > fall[1] > fall[2] + 0.01
    assert fall[2] == pytest.approx(fall[3])
    # Without arms, candidates of unknown families share only what all do.
    plain = CurvePredictor().posterior(task, seen).expected[:, -1]
    assert plain[1] == pytest.approx(plain[2])
    alone = replace(task, candidates=tuple(replace(c, base_model="m") for c in task.candidates[:1]))
    one = make_curves({"a1": {200: 4.0, 800: 3.0}})
    assert CurvePredictor().posterior(alone, one).expected == pytest.approx(
        CurvePredictor().posterior(replace(task, candidates=task.candidates[:1]), one).expected
    )
