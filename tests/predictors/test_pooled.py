"""The parts of the pooled predictor against closed forms and independent solvers."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from lensllm.core.task import Candidate
from lensllm.predictors import LossTable
from lensllm.predictors.pooled import PooledSettings, fit_pooled
from lensllm.predictors.pooled.earlier import Standings, earlier_standings, unbiased
from lensllm.predictors.pooled.law import fit_shared_law, recency_weights
from lensllm.predictors.pooled.model import shrunken_effects
from lensllm.predictors.pooled.predictor import draw_log_loss
from lensllm.predictors.pooled.validation import Residuals, cutoffs, reversion_rate, shape_weights

SIZES = 200.0 * 2.0 ** np.arange(8)
BETA, FLOOR = 0.45, 0.3
CLEAN = PooledSettings(decay=0.5, noise=1e-4)


def rectified(n_models, sizes=SIZES, beta=BETA, floor=FLOOR, noise=0.0, seed=0):
    """Losses B / (T^beta + D^beta) + floor with transitions T between the sizes, and the truth."""
    rng = np.random.default_rng(seed)
    transition = np.exp(rng.uniform(np.log(2e3), np.log(2e5), n_models))
    first = rng.uniform(2.0, 3.5, n_models)
    pre = transition**beta
    scale = (first - floor) * (pre + sizes[0] ** beta)

    def loss(n_samples):
        return scale[:, None] / (pre[:, None] + np.asarray(n_samples) ** beta) + floor

    losses = loss(sizes) * np.exp(noise * rng.standard_normal((n_models, len(sizes))))
    return losses, loss


def table_of(losses, sizes=SIZES, families=None):
    names = tuple(f"m{i}" for i in range(len(losses)))
    families = tuple(families or [""] * len(losses))
    runs = np.isfinite(losses).astype(float)
    return LossTable(names, families, sizes, np.log(losses), runs, np.zeros_like(runs))


def test_table_keeps_finite_points_above_zero_in_order(make_curves):
    curves = make_curves(
        {"b": {0: 9.0, 200: 3.0, 400: math.nan}, "a": {400: 2.0}, "c": {0: 4.0, 200: math.inf}}
    )
    candidates = [Candidate("a", family="x"), Candidate("b"), Candidate("c")]
    table = LossTable.from_curves(candidates, curves).measured()
    assert table.models == ("a", "b")
    assert table.families == ("x", "")
    assert table.sizes.tolist() == [200, 400]
    np.testing.assert_allclose(np.exp(table.log_loss), [[np.nan, 2.0], [3.0, np.nan]])
    assert table.last.tolist() == [400, 200]
    assert table.until(200).last.tolist() == [0, 200]


def test_weights_fall_with_every_doubling_before_a_candidates_own_last_size():
    losses = np.array([[3.0, 2.0, 1.0], [3.0, np.nan, np.nan], [3.0, np.nan, 1.0]])
    weights = recency_weights(table_of(losses, SIZES[:3]), 0.5)
    expected = [[1 / 7, 2 / 7, 4 / 7], [1, 0, 0], [1 / 5, 0, 4 / 5]]
    np.testing.assert_allclose(weights, expected)


def test_shared_law_continues_clean_rectified_curves():
    losses, loss = rectified(12)
    law = fit_shared_law(table_of(losses), np.array([BETA]), FLOOR, CLEAN)
    later = SIZES[-1] * np.array([2.0, 8.0, 64.0])
    np.testing.assert_allclose(
        np.exp(law.log_loss(later)[0]), loss(later), rtol=2e-2
    )  # a step of logits
    assert law.residual.max() < 2e-3


def test_slopes_have_the_posterior_that_integration_finds():
    losses, _ = rectified(5, noise=0.01)
    losses[3, 2] = np.nan
    losses[4, 1:] = np.nan
    table = table_of(losses)
    known = PooledSettings(
        decay=0.4,
        slope=0.08,
        slope_uncertainty=1e-6,
        slope_spreads=(0.5,),
        noise=0.02,
        noise_strength=1e9,
    )
    law = fit_shared_law(table, np.array([0.3, 0.6]), 0.1, known)
    weights = recency_weights(table, 0.4)
    for b, beta in enumerate(law.betas):
        for i in range(len(losses)):
            seen = table.seen[i]
            w, x = weights[i, seen], np.log(SIZES[seen])
            y = np.log(losses[i, seen] - 0.1)

            def density(u, w=w, x=x, y=y, beta=beta):
                rest = y + np.logaddexp(0, u + beta * (x - np.log(SIZES[-1])))
                square = np.sum(w * (rest - np.sum(w * rest)) ** 2)
                slope = beta / (1 + math.exp(-u)) / 0.08 - 1
                return math.exp(-0.5 * square / (0.02**2 * w.max()) - 0.5 * (slope / 0.5) ** 2)

            def moment(k, f=density, beta=beta):
                return quad(lambda u: (beta / (1 + math.exp(-u))) ** k * f(u), -6, 6, limit=200)[0]

            mean, square = moment(1) / moment(0), moment(2) / moment(0)
            assert law.slope[b, 0, i] == pytest.approx(mean, rel=1e-2)
            spread = math.sqrt(square - mean**2)
            assert law.slope_spread[b, 0, i] == pytest.approx(spread, rel=2e-2)
    assert np.exp(law.log_loss(SIZES[:1])[:, 4, 0]) == pytest.approx(losses[4, 0])


def test_slopes_shrink_to_each_other_where_points_are_few():
    errors = []
    for seed in range(5):
        losses, loss = rectified(12, noise=0.02, seed=seed)
        few = table_of(losses[:, :2], SIZES[:2])
        truth = np.log(loss(SIZES[5:6]))
        own = (few.log_loss @ [-4.0, 5.0])[:, None]  # the line through both points
        betas = np.array([BETA])
        pooled = fit_shared_law(few, betas, FLOOR, PooledSettings(noise=0.02)).log_loss(SIZES[5:6])
        errors.append([np.std(own - truth), np.std(pooled[0] - truth)])
    line, shrunk = np.mean(errors, axis=0)
    assert shrunk < 0.85 * line


def test_a_single_point_takes_the_slope_of_the_others_and_is_less_sure():
    losses, _ = rectified(12)
    losses[0, 1:] = np.nan
    law = fit_shared_law(table_of(losses), np.array([BETA]), FLOOR, CLEAN)
    slope = np.einsum("h,hn->n", law.pair_weight[0], law.slope[0])
    assert abs(slope[0] - slope[1:].mean()) < slope[1:].std()
    assert law.slope_spread[0, :, 0].min() > 5 * law.slope_spread[0, :, 1:].max()
    assert math.exp(law.log_loss(SIZES[:1])[0, 0, 0]) == pytest.approx(losses[0, 0])


def test_pairs_are_weighed_by_the_evidence_of_all_candidates():
    losses, _ = rectified(4, noise=0.01)
    table = table_of(losses[:, :3], SIZES[:3])
    settings = PooledSettings(decay=1.0, noise=0.01, noise_strength=1e9, slope_spreads=(0.3, 0.9))
    law = fit_shared_law(table, np.array([BETA]), 0.0, settings)
    means = settings.slope * np.exp(settings.slope_uncertainty * np.linspace(-3, 3, 31))
    x, y = np.log(SIZES[:3] / SIZES[2]), np.log(losses[:, :3])

    def evidence(mean, spread, own):
        def density(u, k):
            slope = BETA / (1 + math.exp(-u))
            rest = own + np.logaddexp(0, u + BETA * x)
            square = np.sum((rest - rest.mean()) ** 2)  # all weights are the same
            prior = math.exp(-0.5 * ((slope / mean - 1) / spread) ** 2)
            return prior * (math.exp(-0.5 * square / 0.01**2) if k else 1.0)

        posterior, prior = (quad(density, -6, 6, args=(k,), limit=200)[0] for k in (1, 0))
        return math.log(posterior / prior)

    pairs = [(mean, spread) for mean in means for spread in (0.3, 0.9)]
    log_weight = np.array([sum(evidence(*pair, own) for own in y) for pair in pairs])
    log_weight -= 0.5 * np.repeat(np.linspace(-3, 3, 31) ** 2, 2)
    weight = np.exp(log_weight - log_weight.max())
    weight = weight[weight > 1e-3]
    np.testing.assert_allclose(law.pair_weight[0], weight / weight.sum(), atol=2e-3)


def test_what_is_unknown_of_the_mean_slope_moves_all_candidates_alike():
    losses, _ = rectified(8)
    settings = PooledSettings(slope_spreads=(0.1,))
    law = fit_shared_law(table_of(losses[:, :1], SIZES[:1]), np.array([BETA]), 0.0, settings)
    later = law.draw_log_loss(SIZES[4:5], np.zeros(4000, dtype=int), np.random.default_rng(0))[
        :, :, 0
    ]
    assert later.std(axis=0).min() > 3 * (later[:, 1:] - later[:, :1]).std(axis=0).max()


def test_cutoffs_predict_later_points_of_candidates_with_enough_earlier_ones():
    losses, _ = rectified(3)
    losses[0, 5:] = np.nan
    losses[1, [0, 1]] = np.nan
    found = cutoffs(table_of(losses), np.array([BETA]), np.array([FLOOR]), CLEAN)
    assert len(found) == 5  # up to 800 ... 12800
    np.testing.assert_array_equal(np.isfinite(found[0].doublings).sum(axis=1), [2, 0, 5])
    assert np.isfinite(found[2].doublings[1]).sum() == 3
    errors = [np.nanmax(np.abs(split.rates)) for split in found]
    assert max(errors) < 5e-3


@pytest.mark.parametrize("beta", [0.25, 0.6])
def test_forward_validation_finds_the_exponent(beta):
    losses, _ = rectified(20, beta=beta, noise=0.003)
    betas = np.array([0.15, 0.25, 0.4, 0.6, 0.9])
    floors = np.array([FLOOR])
    splits = cutoffs(table_of(losses), betas, floors, PooledSettings(decay=0.5))
    weights = shape_weights(splits, np.zeros((1, 5)), strength=20.0, tolerance=0.001)
    assert betas[weights[0].argmax()] == beta
    assert weights.sum() == pytest.approx(1.0)
    flat = shape_weights([], np.log([[1.0, 3.0]]), 4.0, 0.01)
    np.testing.assert_allclose(flat, [[0.25, 0.75]])


def test_reversion_is_a_ridge_regression_and_removes_what_it_explains():
    rng = np.random.default_rng(0)
    level = rng.normal(size=6)
    doublings = np.array([[1.0, 2.0]]).repeat(6, axis=0)
    kappa = 0.05
    error = level[:, None] * (1 - np.exp(-kappa * doublings))
    item = Residuals(level, doublings, error, np.zeros(2))
    slopes = [np.polyfit(level, (error / doublings)[:, k], 1)[0] for k in range(2)]
    centred = replace(item, level=level - level.mean(), error=error - error.mean(axis=0))
    assert reversion_rate([centred], 0.0, 1e-9) == pytest.approx(np.mean(slopes))
    expected = (sum(slopes) + 3 * 0.01) / 5
    assert reversion_rate([centred], 0.01, 3.0) == pytest.approx(expected)
    assert reversion_rate([], 0.02, 5.0) == pytest.approx(0.02)
    np.testing.assert_allclose(item.rates(kappa), 0.0, atol=1e-15)


def test_effects_are_the_dense_gaussian_posterior():
    rng = np.random.default_rng(1)
    family = np.array([0, 0, 0, 1, 1, 2])
    rates = rng.normal(size=6)
    rates[[1, 5]] = np.nan
    f, c = 0.4, 0.2
    mean, variance = shrunken_effects(rates, family, f, c)
    prior = f * (family[:, None] == family) + c * np.eye(6)
    known = np.isfinite(rates)
    gain = prior[:, known] @ np.linalg.inv(prior[np.ix_(known, known)] + np.eye(known.sum()))
    np.testing.assert_allclose(mean, gain @ rates[known])
    np.testing.assert_allclose(variance, np.diag(prior - gain @ prior[known]))


def test_standings_on_earlier_tasks_are_a_measurement_of_the_standing_here(make_curves):
    """Exchangeable Gaussian standings: the posterior that a dense covariance gives."""
    sizes = SIZES[:4].astype(int)
    models = ["a", "b", "c", "d"]
    levels = {"one": [1.0, 1.5, 2.0, 3.5], "two": [1.2, 1.1, 2.6]}
    prior = pd.concat(
        make_curves(
            {
                model: {int(n): level * (n / 200) ** -0.1 for n in sizes}
                for model, level in zip(models, values, strict=False)
            }
        ).assign(dataset=name)
        for name, values in levels.items()
    )
    r = 0.4
    found = earlier_standings(
        [*models, "e"], float(SIZES[3]), prior, PooledSettings(task_correlation=r)
    )
    logs = [np.log(levels["one"]), np.log(levels["two"])]
    z = [(x - np.median(x)) / (1.4826 * np.median(np.abs(x - np.median(x)))) for x in logs]
    z = [np.clip(x, -2.5, 2.5) for x in z]
    assert max(z[1]) == 2.5  # what lies farther out counts as this
    for i in range(3):
        covariance = np.full((2, 2), r) + (1 - r) * np.eye(2)
        gain = np.linalg.solve(covariance, [r, r])
        mean, variance = gain @ [z[0][i], z[1][i]], 1 - gain @ [r, r]
        precision = 1 / found.variance[i]
        assert found.value[i] * precision / (1 + precision) == pytest.approx(mean, rel=0.02)
        assert 1 / (1 + precision) == pytest.approx(variance)
    assert found.value[3] == pytest.approx(z[0][3] / r, rel=0.02)
    assert found.variance[3] == pytest.approx((1 - r**2) / r**2)
    assert np.isinf(found.variance[4])


def test_conditioning_on_standings_is_the_dense_gaussian_posterior():
    rng = np.random.default_rng(0)
    mean = np.array([0.3, -0.1, 0.0, -0.2])
    spread = np.array([0.3, 0.1, 0.2, 0.4])
    ends = mean + spread * rng.standard_normal((200_000, 4)) + rng.standard_normal((200_000, 1))
    draws = np.stack([0.5 * ends, ends], axis=2)
    standings = Standings(np.array([1.0, -2.0, 0.5, 0.0]), np.array([2.0, 3.0, 1.0, np.inf]))
    moved = standings.condition(draws, rng)
    np.testing.assert_array_equal(moved[:, 3], draws[:, 3])
    known = [0, 1, 2]
    centre = np.eye(3) - 1 / 3
    own = np.diag(centre @ np.diag(spread[known] ** 2) @ centre)
    expected = centre @ mean[known]
    scale = 1.4826 * np.median(np.abs(ends - np.median(ends[:, :3], axis=1, keepdims=True))[:, :3])
    noise = scale**2 * standings.variance[known]
    value = scale * (standings.value[known] - standings.value[known].mean())
    shift = own / (own + noise) * (value - expected)
    np.testing.assert_allclose((moved - draws).mean(axis=0)[known, 1], shift, atol=4e-3)
    np.testing.assert_allclose((moved - draws).mean(axis=0)[known, 0], shift / 2, atol=4e-3)
    left = moved[:, known, 1] - draws[:, known, 1].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(left.var(axis=0), own * noise / (own + noise), rtol=0.02)


def test_equal_predictions_do_not_make_weak_standings_certain():
    rng = np.random.default_rng(0)
    draws = 0.1 * rng.standard_normal((20_000, 2, 1))
    weak = Standings(np.array([-5.0, 5.0]), np.full(2, (1 - 0.2**2) / 0.2**2))  # r = 0.2
    moved = weak.condition(draws, rng)[:, :, 0]
    assert 0.5 < (moved[:, 0] < moved[:, 1]).mean() < 0.65
    apart = [(x[:, 0] - x[:, 1]).std() for x in (draws[:, :, 0], moved)]
    assert apart[1] == pytest.approx(apart[0], rel=0.05)


def test_bias_on_earlier_tasks_is_a_measurement_of_the_bias_here():
    """Exchangeable Gaussian biases: the posterior that a dense covariance gives."""
    here, _ = rectified(5, noise=0.01)
    here[:, 5:] = np.nan
    here[3, 4] = np.nan  # m3 was tried at four sizes, the others at five
    model = fit_pooled(table_of(here), PooledSettings())
    tables, biases = [], []
    for name, seed, n_models, n_sizes in (("x", 1, 5, 8), ("y", 2, 4, 7), ("z", 3, 5, 4)):
        losses, _ = rectified(n_models, noise=0.01, seed=seed)
        losses = losses[:, :n_sizes]
        tables += [
            (f"m{i}", name, int(n), 0, loss)
            for i in range(n_models)
            for n, loss in zip(SIZES, losses[i], strict=False)
        ]
        if name == "z":  # nothing later than here
            continue
        shown = np.where(np.isfinite(here[:n_models, :5]), losses[:, :5], np.nan)
        fitted = fit_pooled(table_of(shown, sizes=SIZES[:5]), PooledSettings())
        predicted = fitted.centre(SIZES[[n_sizes - 1]])[:, 0]
        doublings = n_sizes - np.where(np.arange(n_models) == 3, 4, 5)
        biases.append(((predicted - np.log(losses[:, -1])) / doublings).mean())
    columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
    prior = pd.DataFrame(tables, columns=columns)
    gamma = 0.4
    found = unbiased(model, SIZES[-1], prior, PooledSettings(bias_correlation=gamma))
    covariance = np.full((2, 2), gamma) + (1 - gamma) * np.eye(2)
    gain = np.linalg.solve(covariance, [gamma, gamma])
    assert found.bias == pytest.approx(gain @ biases)
    assert found.bias_spread == pytest.approx(
        model.bias_spread * math.sqrt(1 - gain @ [gamma, gamma])
    )
    later = np.array([6400.0, 25600.0])
    np.testing.assert_allclose(
        model.centre(later) - found.centre(later), found.bias * model.doublings(later)
    )
    assert unbiased(model, SIZES[-1], prior, PooledSettings(bias_correlation=0.0)) is model
    nothing_later = prior[prior["dataset"] == "z"]
    assert unbiased(model, SIZES[-1], nothing_later, PooledSettings()) is model
    assert unbiased(model, 3200.0, prior, PooledSettings()) is model  # only m3 goes on, to 3200


def test_candidates_without_a_family_stand_alone():
    index = table_of(np.ones((4, 8)), families=["x", "", "", "x"]).family_index
    assert index[0] == index[3]
    assert len(set(index.tolist())) == 3


def test_predictions_scale_with_the_unit_of_loss_and_ignore_the_order():
    losses, _ = rectified(9, noise=0.01)
    losses[2, 4:] = np.nan
    families = list("aaabbbccc")
    later = SIZES[-1] * np.array([4.0, 32.0])
    centre = fit_pooled(table_of(losses, families=families), PooledSettings()).centre(later)
    scaled = fit_pooled(table_of(3 * losses, families=families), PooledSettings()).centre(later)
    np.testing.assert_allclose(scaled, centre + np.log(3), atol=1e-9)
    order = np.random.default_rng(0).permutation(9)
    table = table_of(losses[order], families=[families[i] for i in order])
    mixed = fit_pooled(table, PooledSettings()).centre(later)
    np.testing.assert_allclose(mixed, centre[order], atol=1e-9)


def test_beats_the_unpooled_last_line_on_curves_that_steepen():
    losses, loss = rectified(20, noise=0.005, seed=3)
    target = np.array([SIZES[-1] * 64])
    truth = np.log(loss(target)[:, 0])
    predicted = fit_pooled(table_of(losses), PooledSettings()).centre(target)[:, 0]
    slope = np.log(losses[:, -1] / losses[:, -2])
    line = np.log(losses[:, -1]) + 6 * slope
    assert np.sqrt(np.mean((predicted - truth) ** 2)) < np.sqrt(np.mean((line - truth) ** 2))


def test_draws_spread_about_the_centre_and_agree_with_what_was_measured():
    losses, _ = rectified(6, noise=0.005)
    losses[1, 5:] = np.nan
    settings = PooledSettings()
    model = fit_pooled(table_of(losses), settings)
    sizes = np.array([*SIZES[5:], SIZES[-1] * 8])
    rng = np.random.default_rng(0)
    draws = draw_log_loss(model, sizes, settings, 4000, rng)
    assert draws.shape == (4000, 6, len(sizes))
    centre = model.centre(sizes)
    spread = draws.std(axis=0)
    assert np.all(np.abs(draws.mean(axis=0) - centre) < 5 * spread / np.sqrt(4000) + 1e-9)
    measured = spread[[0, 2, 3, 4, 5], 2]
    assert measured.max() < 0.02 < spread[:, -1].min()
    assert spread[1, 2] > 2 * spread[0, 2]  # beyond its own last size, within the others'
    step = np.corrcoef(draws[:, 0, -1], draws[:, 1, -1])[0, 1]
    assert step > 0.1  # what all share moves all


@pytest.mark.parametrize("n_models", [1, 2, 200])
@pytest.mark.parametrize("n_points", [1, 2, 3, 14])
def test_any_number_of_candidates_and_points(n_models, n_points):
    sizes = 200.0 * 2.0 ** np.arange(n_points)
    losses, _ = rectified(n_models, sizes=sizes, noise=0.01)
    settings = PooledSettings()
    model = fit_pooled(table_of(losses, sizes), settings)
    draws = draw_log_loss(model, sizes[-1:] * 8, settings, 100, np.random.default_rng(0))
    assert np.isfinite(draws).all()
    assert np.isfinite(model.noise).all()
    assert (np.exp(model.centre(sizes[-1:] * 8)) < losses[:, -1:] * 1.1).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"floor_shares": (1.0,)}, r"`floor_shares` in \[0, 1\), got \[1.0\]"),
        ({"decay": 1.5}, r"`decay` in \[0, 1\], got 1.5"),
        ({"task_correlation": 1.0}, r"`task_correlation` in \[0, 1\), got 1"),
        ({"bias_correlation": -0.1}, r"`bias_correlation` in \[0, 1\), got -0.1"),
        ({"min_points": 1}, "`min_points` >= 2, got 1"),
        ({"exponent": -0.1}, "`exponent` > 0, got -0.1"),
        ({"reversion": -0.1}, "`reversion` >= 0, got -0.1"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        PooledSettings(**values)
