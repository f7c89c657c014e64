import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from lensllm.laws import NoisePrior, RectifiedLaw, VanillaLaw, fit_law, fit_laws
from lensllm.laws.posterior import ENOUGH_DRAWS
from lensllm.laws.simulation import simulate_curves


def brute_force(law, sizes, losses, reference, later, prior, n=70):
    """Posterior quantiles of the law's loss at `later`, by summing over a dense grid.

    Level and noise are integrated out as in the model; share p, β and T are laid on a grid that
    is zoomed twice to where the mass is. Written without the sampler's linearisation or layout.
    """
    centre, width = law.prior_shape()
    low = np.array([-9.0, *(centre - 4 * width)])
    high = np.array([9.0, *(centre + 4 * width)])
    y = np.log(losses)
    for _ in range(5):
        axes = [a + (b - a) * (np.arange(n) + 0.5) / n for a, b in zip(low, high, strict=True)]
        logit, *free = np.meshgrid(*axes, indexing="ij")
        free = np.stack(free, axis=-1).reshape(-1, len(centre))
        p = expit(logit.ravel())
        coordinates = np.concatenate(
            [np.zeros((len(p), 1)), p[:, None], law.free_to_shape(free)], axis=1
        )
        fitted, _ = law.log_loss(np.log(sizes), coordinates, np.full(len(p), reference), False)
        gap = y - fitted
        level = gap.mean(axis=1)
        squares = ((gap - level[:, None]) ** 2).sum(axis=1)
        degrees = prior.degrees + len(y) - 1
        log_density = -0.5 * degrees * np.log(prior.degrees * prior.scale**2 + squares)
        log_density += np.log(p * (1 - p)) - 0.5 * (((free - centre) / width) ** 2).sum(axis=1)
        mass = np.exp(log_density - log_density.max())
        cube = mass.reshape((n,) * len(axes))
        for axis in range(len(axes)):
            others = tuple(i for i in range(len(axes)) if i != axis)
            kept = np.flatnonzero(cube.sum(axis=others) > 1e-7 * mass.sum())
            step = (high[axis] - low[axis]) / n
            low[axis], high[axis] = (
                low[axis] + (kept[0] - 1) * step,
                low[axis] + (kept[-1] + 2) * step,
            )
    later_values, _ = law.log_loss(np.log([later]), coordinates, np.full(len(p), reference), False)
    # the level's own spread is small beside the continuation's; its mean is enough here
    values = later_values[:, 0] + level
    order = np.argsort(values)
    cumulative = np.cumsum(mass[order]) / mass.sum()
    return np.exp(values[order][np.searchsorted(cumulative, [0.1, 0.5, 0.9])])


@pytest.mark.parametrize(("n_points", "noise", "seed"), [(4, 0.1, 3), (5, 0.1, 3), (6, 0.03, 3)])
def test_heavy_noise_and_few_points_are_drawn_until_they_are_worth_something(
    n_points, noise, seed, sizes
):
    """Of these curves some had an effective size of 4 by the linearised proposal alone."""
    law, prior = RectifiedLaw(), NoisePrior()
    grid = np.append(sizes[:n_points], sizes[n_points - 1] * 8)
    _, losses = simulate_curves(150, grid, noise, seed)
    fits = fit_laws(law, grid[:-1], losses[60:140, :-1])
    posteriors = fits.sample_posteriors(prior, n_draws=4000)
    worth = np.array([posterior.effective_size for posterior in posteriors])
    assert worth.min() >= ENOUGH_DRAWS


@pytest.mark.parametrize(("n_points", "noise"), [(4, 0.1), (6, 0.03)])
def test_intervals_cover_where_the_noise_is_expected(n_points, noise, sizes):
    """Curves of the model's own prior, with noise of the size that the prior expects."""
    law, prior, rng, n = RectifiedLaw(), NoisePrior(noise, 2.0), np.random.default_rng(1), 300
    centre, width = law.prior_shape()
    shape = law.free_to_shape(centre + width * rng.standard_normal((n, 2)))
    scale = noise * np.sqrt(prior.degrees / rng.chisquare(prior.degrees, n))
    z = np.concatenate([rng.uniform(size=(n, 2)), shape], axis=1)
    grid = np.append(sizes[:n_points], sizes[n_points - 1] * 8)
    reference = np.full(n, np.log(grid[:-1]).mean())
    values, _ = law.log_loss(np.log(grid), z, reference, gradient=False)
    losses = np.exp(values + scale[:, None] * rng.standard_normal(values.shape))
    posteriors = fit_laws(law, grid[:-1], losses[:, :-1]).sample_posteriors(prior)
    assert min(posterior.effective_size for posterior in posteriors) >= ENOUGH_DRAWS
    ends = np.array([posterior.interval(grid[-1], 0.8) for posterior in posteriors])[..., 0]
    inside = int(((ends[:, 0] <= losses[:, -1]) & (losses[:, -1] <= ends[:, 1])).sum())
    low, high = binom.interval(0.999, n, 0.8)
    assert low <= inside <= high


@pytest.mark.parametrize("law", [RectifiedLaw(), VanillaLaw(with_alpha=False), VanillaLaw()])
@pytest.mark.parametrize("n_points", [6, 9])
def test_agrees_with_brute_force(law, n_points, sizes):
    prior = NoisePrior()
    _, losses = simulate_curves(2, sizes[:n_points], 0.005, seed=8)
    fits = fit_laws(law, sizes[:n_points], losses)
    posteriors = fits.sample_posteriors(prior, n_draws=4000)
    for posterior, curve in zip(posteriors, losses, strict=True):
        later = sizes[n_points - 1] * 8
        expected = brute_force(law, sizes[:n_points], curve, posterior.log_reference, later, prior)
        found = posterior.quantiles(later, [0.1, 0.5, 0.9], noise=False)[:, 0]
        width = np.log(expected[2] / expected[0])
        assert np.log(found) == pytest.approx(np.log(expected), abs=0.08 * width + 0.002)


def test_intervals_cover_when_the_prior_is_true(sizes):
    """Curves drawn from the model's own prior: coverage must be exact up to chance."""
    law, prior, rng = RectifiedLaw(), NoisePrior(), np.random.default_rng(0)
    n, n_points = 600, 7
    centre, width = law.prior_shape()
    shape = law.free_to_shape(centre + width * rng.standard_normal((n, 2)))
    noise = prior.scale * np.sqrt(prior.degrees / rng.chisquare(prior.degrees, n))
    z = np.concatenate([np.zeros((n, 1)), rng.uniform(size=(n, 1)), shape], axis=1)
    z[:, 0] = rng.uniform(0.0, 1.0, n)
    grid = np.append(sizes[:n_points], sizes[n_points - 1] * 16)
    reference = np.full(n, np.log(sizes[:n_points]).mean())
    values, _ = law.log_loss(np.log(grid), z, reference, gradient=False)
    losses = np.exp(values + noise[:, None] * rng.standard_normal(values.shape))
    fits = fit_laws(law, grid[:-1], losses[:, :-1])
    ranks = np.array(
        [
            (posterior.sample(grid[-1])[:, 0] < loss).mean()
            for posterior, loss in zip(fits.posteriors, losses[:, -1], strict=True)
        ]
    )
    for level in (0.5, 0.8, 0.95):
        inside = int((np.abs(ranks - 0.5) < level / 2).sum())
        low, high = binom.interval(0.999, n, level)
        assert low <= inside <= high
    assert np.median(ranks) == pytest.approx(0.5, abs=3.5 * 0.5 / np.sqrt(n) * 2)


def test_same_seed_same_draws_and_batch_size_is_no_matter_of_chance(sizes):
    _, losses = simulate_curves(3, sizes[:8], 0.01, seed=6)
    first = fit_laws(RectifiedLaw(), sizes[:8], losses)[2].posterior
    again = fit_laws(RectifiedLaw(), sizes[:8], losses)[2].posterior
    assert np.array_equal(first.coordinates, again.coordinates)
    alone = fit_law(RectifiedLaw(), sizes[:8], losses[2]).posterior
    assert alone.quantiles(4e5, [0.1, 0.5, 0.9]) == pytest.approx(
        first.quantiles(4e5, [0.1, 0.5, 0.9]), rel=0.05
    )


def test_draws_are_worth_something(sizes):
    _, losses = simulate_curves(40, sizes, 0.003, seed=7)
    for n_points in (4, 6, 10, 14):
        fits = fit_laws(RectifiedLaw(), sizes[:n_points], losses[:, :n_points])
        assert min(posterior.effective_size for posterior in fits.posteriors) > 100


def test_more_points_narrow_the_interval(sizes):
    _, losses = simulate_curves(1, sizes, 0.003, seed=9)
    widths = []
    for n_points in (5, 8, 11):
        fit = fit_law(RectifiedLaw(), sizes[:n_points], losses[0, :n_points])
        low, high = fit.posterior.interval(sizes[-1], 0.8)
        widths.append(float(np.log(high / low)[0]))
    assert widths[0] > widths[1] > widths[2]


def test_noise_of_draws_is_that_of_the_curve(sizes):
    _, losses = simulate_curves(1, np.repeat(sizes, 20), 0.02, seed=10)
    fit = fit_law(RectifiedLaw(), np.repeat(sizes, 20), losses[0])
    assert np.median(fit.posterior.noise) == pytest.approx(0.02, rel=0.15)


def test_zero_and_repeats_are_points_like_others(sizes):
    n = np.array([0.0, 0.0, 200, 200, 400, 800, 1600, 6400])
    losses = RectifiedLaw()(n, [60.0, 0.5, 20.0, 1.0])
    posterior = fit_law(RectifiedLaw(), n, losses).posterior
    low, high = posterior.interval([0.0, 25600.0], 0.9)
    truth = RectifiedLaw()([0.0, 25600.0], [60.0, 0.5, 20.0, 1.0])
    assert (low < truth).all()
    assert (truth < high).all()
