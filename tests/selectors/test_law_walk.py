import math

import numpy as np
import pytest

from lensllm.laws import ExponentialCurve, LensLLMLaw, fit_law, fit_laws
from lensllm.selectors.law_walk import SMALLEST_STD, LawWalk, walk_together

SIZES = (200, 400, 800, 1600, 3200, 6400, 12800)


def fit(laws, points):
    sizes = sorted({n for part in points for n in part})
    table = np.array([[part.get(n, math.nan) for n in sizes] for part in points])
    options = {"objective": "huber", "use_zero": True, "n_starts": 8}
    return fit_laws(list(laws), np.array(sizes, float), table, **options)


def noisy_walks(n, noise=0.01):
    """Curves of the law with noise, some points lifted, some trials diverged."""
    rng = np.random.default_rng(0)
    walks = []
    for i in range(n):
        law = LensLLMLaw(ExponentialCurve(rng.exponential(9.0, 3), rng.exponential(1.0, 3)))
        params = [rng.uniform(5, 40), rng.uniform(0.25, 0.5), rng.uniform(0, 1), rng.uniform(1, 3)]
        losses = law(np.array([0.0, *SIZES]), params) * np.exp(noise * rng.normal(size=8))
        losses[1 + i % 3] *= 1.0 + 0.1 * (i % 2)
        seen = dict(zip(SIZES, losses[1:].tolist(), strict=True))
        if i % 4 == 0:
            seen[1600] = math.nan
        walks.append(LawWalk(law, SIZES, seen, float(losses[0]) if i % 3 else math.nan))
    return walks


def accepted_alone(walk, n_first, tau):
    """Algorithm 1 for one candidate, one `fit_law` a test."""
    accepted = []
    for n in (n for n in reversed(SIZES) if math.isfinite(walk.seen[n])):
        if len(accepted) >= n_first:
            sizes = [*accepted, *([0] if math.isfinite(walk.zero) else [])]
            losses = [walk.seen.get(x, walk.zero) for x in sizes]
            one = fit_law(walk.law, sizes, losses, objective="huber", use_zero=True, n_starts=8)
            error = abs(math.log(walk.seen[n] / one.predict(float(n))))
            if error > tau * max(float(np.std(one.log_residuals)), SMALLEST_STD):
                break
        accepted.append(n)
    return accepted


@pytest.mark.parametrize(("n_first", "tau"), [(4, 2.0), (5, 8.0)])
def test_together_as_one_by_one(n_first, tau):
    walks = noisy_walks(9)
    walk_together(walks, fit, n_first, tau)
    expected = [accepted_alone(walk, n_first, tau) for walk in noisy_walks(9)]
    assert [walk.accepted for walk in walks] == expected
    assert len({len(accepted) for accepted in expected}) > 1


def test_a_step_is_one_fit_and_answers_are_kept():
    calls = []

    def counted(laws, points):
        calls.append(len(laws))
        return fit(laws, points)

    walks, known = noisy_walks(6, noise=0.0), {}
    for walk in walks:
        walk.seen = {n: loss for n, loss in walk.seen.items() if n >= 800}
    walk_together(walks, counted, 4, 5.0, known)
    assert len(calls) <= 2
    assert all(walk.ask == 400 for walk in walks if len(walk.accepted) == 5)
    again, before = noisy_walks(6, noise=0.0), len(calls)
    for walk, earlier in zip(again, walks, strict=True):
        walk.law, walk.seen = earlier.law, earlier.seen
    walk_together(again, counted, 4, 5.0, known)
    assert len(calls) == before
    assert [w.accepted for w in again] == [w.accepted for w in walks]


def test_without_finite_points_nothing_is_asked_of_the_fit():
    law = LensLLMLaw(ExponentialCurve([4.0], [1.0]))
    walk = LawWalk(law, (200, 400), {200: math.nan, 400: math.nan})
    walk_together([walk], lambda laws, points: pytest.fail("fitted"), 3, 5.0)
    assert (walk.accepted, walk.ask, walk.ended) == ([], None, True)
