import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from lensllm.core.curves import read_curves
from lensllm.laws import RectifiedLaw, VanillaLaw, fit_law, fit_laws
from lensllm.laws.simulation import simulate_curves

OBJECTIVES = ("squared_log", "huber", "squared")


def objective_value(name, params, sizes, losses, delta=1e-3):
    """The objectives, written down a second time."""
    scale, beta, pre_learned, floor = params
    fitted = scale / (pre_learned + sizes**beta) + floor
    if name == "squared":
        return 0.5 * np.sum((fitted - losses) ** 2)
    r = np.abs(np.log(fitted) - np.log(losses))
    if name == "squared_log":
        return 0.5 * np.sum(r**2)
    return np.sum(np.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recovers_clean_curves_over_a_wide_grid(objective, sizes):
    grid = itertools.product(
        np.linspace(0.15, 1.5, 6), np.geomspace(50, 5e5, 5), (0.1, 0.5, 2.0), (0.5, 4.0)
    )
    params = np.array(
        [(a * (t**beta + 12800.0**beta), beta, t**beta, floor) for beta, t, floor, a in grid]
    )
    fits = fit_laws(RectifiedLaw(), sizes, RectifiedLaw()(sizes, params), objective=objective)
    assert fits.converged.all()
    assert np.abs(fits.params / params - 1.0).max() < 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_worse_than_scipy_from_many_starts(objective, sizes):
    _, losses = simulate_curves(6, sizes[:9], 0.01, seed=3)
    fits = fit_laws(RectifiedLaw(), sizes[:9], losses, objective=objective)
    rng = np.random.default_rng(0)
    for fit, curve in zip(fits, losses, strict=True):
        value = objective_value(objective, fit.params, sizes[:9], curve)
        assert value == pytest.approx(fit.value, rel=1e-6)

        def goal(x, curve=curve):
            scale, beta, pre_learned, floor = np.exp(x[0]), np.exp(x[1]), np.exp(x[2]), x[3]
            return objective_value(
                objective, (scale, beta, pre_learned, max(floor, 0.0)), sizes[:9], curve
            )

        polished = minimize(
            goal,
            [
                np.log(fit.params[0]),
                np.log(fit.params[1]),
                np.log(fit.params[2] + 1e-9),
                fit.params[3],
            ],
            method="Nelder-Mead",
            options={"maxiter": 2000, "xatol": 1e-10, "fatol": 1e-14},
        )
        assert value <= polished.fun * (1 + 1e-5) + 1e-13
        for _ in range(5):
            start = [
                rng.uniform(0, 6),
                np.log(rng.uniform(0.1, 1)),
                rng.uniform(0, 6),
                rng.uniform(),
            ]
            other = minimize(goal, start, method="Nelder-Mead", options={"maxiter": 3000})
            assert value <= other.fun * (1 + 1e-5) + 1e-13


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_seed_of_the_starts_does_not_matter(objective, sizes):
    _, losses = simulate_curves(20, sizes, 0.01, seed=1)
    first, second = (
        fit_laws(RectifiedLaw(), sizes, losses, objective=objective, seed=seed) for seed in (0, 9)
    )
    assert second.value == pytest.approx(first.value, rel=1e-7)
    assert second.coordinates == pytest.approx(first.coordinates, abs=1e-3)


def test_batch_agrees_with_single_fits_and_masks(sizes):
    _, losses = simulate_curves(5, sizes, 0.01, seed=2)
    losses[0, 9:] = np.nan
    losses[3, ::3] = np.nan
    fits = fit_laws(RectifiedLaw(), sizes, losses)
    for fit, curve in zip(fits, losses, strict=True):
        kept = np.isfinite(curve)
        single = fit_law(RectifiedLaw(), sizes[kept], curve[kept])
        assert fit.n_samples.tolist() == sizes[kept].tolist()
        assert single.value == pytest.approx(fit.value, rel=1e-7)
        assert single.predict(3.2e6) == pytest.approx(fit.predict(3.2e6), rel=1e-4)


def test_curves_with_sizes_of_their_own():
    sizes = np.array([[200.0, 500, 1000, 4000, 9000, 2e4], [100.0, 300, 700, 1500, 8000, 1e5]])
    params = np.array([[60.0, 0.5, 20.0, 1.0], [40.0, 0.45, 15.0, 0.5]])
    losses = RectifiedLaw()(sizes, params)
    assert fit_laws(RectifiedLaw(), sizes, losses).params == pytest.approx(params, rel=1e-6)


def test_weights_of_a_whole_number_are_repeats(sizes):
    _, losses = simulate_curves(1, sizes[:8], 0.02, seed=5)
    weights = np.array([1.0, 2, 1, 3, 1, 1, 2, 1])
    weighted = fit_law(RectifiedLaw(), sizes[:8], losses[0], weights=weights)
    times = weights.astype(int)
    repeated = fit_law(RectifiedLaw(), np.repeat(sizes[:8], times), np.repeat(losses[0], times))
    assert weighted.value == pytest.approx(repeated.value, rel=1e-8)


def test_point_of_weight_zero_is_left_out(sizes):
    losses = RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0])
    losses[4] *= 2.0
    weights = np.ones(len(sizes))
    weights[4] = 0.0
    fit = fit_law(RectifiedLaw(), sizes, losses, weights=weights)
    assert fit.params == pytest.approx([60.0, 0.5, 20.0, 1.0], rel=1e-6)


def test_zero_can_be_used_or_left_out(sizes):
    n = np.append(0.0, sizes)
    losses = RectifiedLaw()(n, [60.0, 0.5, 20.0, 1.0])
    assert fit_law(RectifiedLaw(), n, losses).params == pytest.approx([60, 0.5, 20, 1], rel=1e-6)
    losses[0] = 9.0
    without = fit_law(RectifiedLaw(), n, losses, use_zero=False)
    assert without.params == pytest.approx([60, 0.5, 20, 1], rel=1e-6)
    assert 0.0 not in without.n_samples
    assert fit_law(RectifiedLaw(), n, losses, use_zero=True).rmse_log > 0.01


def test_vanilla_leaves_zero_out_and_refuses_to_use_it(sizes):
    n = np.append(0.0, sizes)
    losses = np.append(5.0, VanillaLaw(with_alpha=False)(sizes, [9.0, 0.3, 0.8]))
    fit = fit_law(VanillaLaw(with_alpha=False), n, losses)
    assert fit.params == pytest.approx([9.0, 0.3, 0.8], rel=1e-6)
    with pytest.raises(ValueError, match="finite at D = 0, got 'power'"):
        fit_law(VanillaLaw(with_alpha=False), n, losses, use_zero=True)


def test_huber_shrugs_off_an_outlier(sizes):
    losses = RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0])
    losses *= np.exp(0.001 * np.random.default_rng(0).standard_normal(len(sizes)))
    losses[6] *= 1.5
    truth = RectifiedLaw()([3.2e6], [60.0, 0.5, 20.0, 1.0])[0]
    huber = fit_law(RectifiedLaw(), sizes, losses, objective="huber")
    squared = fit_law(RectifiedLaw(), sizes, losses)
    assert abs(huber.predict(3.2e6) - truth) < 0.01 * truth
    assert abs(squared.predict(3.2e6) - truth) > 0.02 * truth
    assert any("outlier at n_samples = 12800" in text for text in huber.warnings)


def test_order_of_points_does_not_matter(sizes):
    _, losses = simulate_curves(1, sizes, 0.01, seed=4)
    order = np.random.default_rng(0).permutation(len(sizes))
    fit = fit_law(RectifiedLaw(), sizes[order], losses[0, order])
    assert fit.value == pytest.approx(fit_law(RectifiedLaw(), sizes, losses[0]).value, rel=1e-8)


def test_predict_keeps_the_shape(sizes):
    fit = fit_law(RectifiedLaw(), sizes, RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0]))
    assert fit.predict(400.0).shape == ()
    assert fit.predict([[400.0, 800.0]]).shape == (1, 2)
    assert float(fit.predict(400.0)) == pytest.approx(2.5)
    assert fit.n_samples_for(2.5) == pytest.approx(400.0)
    assert fit.n_samples_for(0.9) == np.inf


def test_fewer_sizes_than_parameters_names_a_law_that_fits():
    with pytest.raises(
        ValueError, match=r"at least 4 distinct sizes.*got 3 in curve 0.*law=power.* from 3"
    ):
        fit_law(RectifiedLaw(), [200, 400, 800], [3.0, 2.8, 2.7])
    with pytest.raises(ValueError, match=r"at least 3 .*got 2 in curve 0: no law here"):
        fit_law(VanillaLaw(with_alpha=False), [200, 400], [3.0, 2.8])


def test_duplicates_are_not_distinct_sizes():
    with pytest.raises(ValueError, match="got 3 in curve 0"):
        fit_law(RectifiedLaw(), [200, 400, 800, 800], [3.0, 2.8, 2.7, 2.71])


def test_short_curves_can_be_skipped(sizes):
    losses = np.tile(RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0]), (2, 1))
    losses[1, 3:] = np.nan
    fits = fit_laws(RectifiedLaw(), sizes, losses, on_error="skip")
    assert fits[0].params[1] == pytest.approx(0.5)
    assert np.isnan(fits[1].params).all()
    assert not fits[1].converged
    assert (
        "3 points at 3 sizes do not determine 4 parameters: 4 sizes are needed"
        in fits[1].warnings[0]
    )
    with pytest.raises(ValueError, match="got a skipped one"):
        _ = fits[1].posterior


@pytest.mark.parametrize(
    ("sizes", "losses", "match"),
    [
        ([200, 400, 800, 1600], [3.0, np.nan, 2.5, 2.4], "got nan at n_samples = 400"),
        ([200, 400, 800, 1600], [3.0, np.inf, 2.5, 2.4], "got inf at n_samples = 400"),
        ([200, 400, 800, 1600], [3.0, 2.8, 0.0, 2.4], "got 0 at point 2"),
        ([200, 400, 800, 1600], [3.0, 2.8, -1.0, 2.4], "got -1 at point 2"),
        ([200, -400, 800, 1600], [3.0, 2.8, 2.6, 2.4], "got -400"),
        ([200, np.nan, 800, 1600], [3.0, 2.8, 2.6, 2.4], "got nan"),
        ([200, 400, 800], [3.0, 2.8, 2.6, 2.4], r"got \(3,\) and \(4,\)"),
    ],
)
def test_bad_points(sizes, losses, match):
    with pytest.raises(ValueError, match=match):
        fit_law(RectifiedLaw(), sizes, losses)


def test_bad_options(sizes):
    losses = np.ones((1, len(sizes)))
    with pytest.raises(ValueError, match="got 'ignore'"):
        fit_laws(RectifiedLaw(), sizes, losses, on_error="ignore")
    with pytest.raises(ValueError, match="`n_starts` >= 1, got 0"):
        fit_laws(RectifiedLaw(), sizes, losses, n_starts=0)
    with pytest.raises(ValueError, match=r"got 2$"):
        fit_laws([RectifiedLaw()] * 2, sizes, losses)
    with pytest.raises(ValueError, match="different ones"):
        fit_laws([RectifiedLaw(), VanillaLaw()], sizes, np.ones((2, len(sizes))))
    with pytest.raises(ValueError, match="`weights` >= 0"):
        fit_laws(RectifiedLaw(), sizes, losses, weights=-losses)


def test_published_log_rmse_is_reached_on_every_data_set(benchmark_dir):
    table = read_curves(benchmark_dir / "rsl")
    table = table[table["n_samples"] > 0]
    wide = table.pivot(index=["dataset", "model"], columns="n_samples", values="test_loss")
    published = pd.read_csv(benchmark_dir / "published" / "rsl_log_rmse.csv")
    laws = {"rectified": RectifiedLaw(), "vanilla": VanillaLaw()}
    for name, law in laws.items():
        fits = fit_laws(law, wide.columns.to_numpy(float), wide.to_numpy())
        measured = pd.Series(fits.rmse_log, index=wide.index).groupby("dataset").mean()
        expected = published.groupby("dataset")[name].mean()
        assert len(expected) == 3
        assert (measured <= expected).all()


def test_thousands_of_curves(sizes):
    _, losses = simulate_curves(10_000, sizes, 0.01, seed=0)
    fits = fit_laws(RectifiedLaw(), sizes, losses, n_starts=8)
    assert fits.converged.mean() > 0.999
    assert np.median(fits.rmse_log) == pytest.approx(0.0085, abs=0.001)


@pytest.mark.parametrize(
    ("dataset", "row", "limit", "optimum"),
    [
        # by a dense grid of beta, D_l and p, polished by SciPy's least squares
        ("flan", 29, 3200, 0.000172294),
        ("flan", 27, 1638400, 0.000561785),
        ("wmt19", 27, 1600, 2.59857e-05),
        ("wmt19", 14, 12800, 3.3139e-05),
        ("wmt19", 25, 1638400, 0.000677277),
        ("gigaword", 8, -1638400, 0.000205661),
        ("flan", 5, -1600, 1.49814e-08),
        ("gigaword", 5, -6400, 1.43922e-06),
    ],
)
def test_optima_far_outside_the_data_are_found(benchmark_dir, dataset, row, limit, optimum):
    """With D = 0 (limit > 0), or without a pre-power phase: log T far below the data."""
    table = pd.read_csv(benchmark_dir / "rsl" / f"{dataset}.csv")
    sizes = np.array([float(name) for name in table.columns if name.isdigit()])
    losses = table.loc[row, [name for name in table.columns if name.isdigit()]].to_numpy(float)
    kept = sizes <= abs(limit)
    fit = fit_law(RectifiedLaw(), sizes[kept], losses[kept], use_zero=limit > 0)
    assert fit.value == pytest.approx(optimum, rel=1e-3)
    assert fit.converged
