import math

import numpy as np
import pytest

from lensllm.selection.adaptive_options import Option, best_option, hopeless
from lensllm.selection.adaptive_value import Beliefs
from lensllm.selection.draws import LossDraws

SIZES = (200, 400, 800, 1600, 6400)


def walks(task, n_draws=1000, steps=0.02, seed=0):
    """Beliefs in which log losses are random walks over sizes: larger sizes tell more."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0, steps, size=(n_draws, len(task.names), len(SIZES)))
    noise = np.full(len(task.names), 0.001)
    return Beliefs(LossDraws(task.names, SIZES, moves.cumsum(axis=2), noise), seed)


def test_the_smallest_probabilities_are_given_up_together():
    shares = np.array([0.004, 0.9, 0.004, 0.004, 0.088])
    assert hopeless(shares, 0.009).tolist() == [True, False, True, False, False]
    assert hopeless(shares, 0.0).sum() == 0
    assert hopeless(np.array([1.0, 0.0]), 0.0).tolist() == [False, True]
    assert hopeless(np.array([1.0]), 0.5).tolist() == [False]


def test_worth_is_per_full_tuning():
    assert Option(((0, 0),), 0.02, 0.01).worth == pytest.approx(0.5)
    assert Option(((0, 0),), 0.0, 0.01).worth == math.inf
    assert not Option(((0, 0),), 0.0, 0.0).worth > 0


def test_only_larger_affordable_sizes_of_candidates_in_play(make_task):
    task = make_task("abc", sizes=SIZES[:-1])
    beliefs = walks(task)
    largest = {"a": 400, "b": 800, "c": 0}
    option = best_option(task, beliefs, largest, [0, 1], 1e9)
    for m, s in option.cells:
        assert m in (0, 1)
        assert SIZES[s] > largest[task.names[m]]
    assert option.share * task.full_cost == sum(
        task.costs[task.names[m], SIZES[s]] for m, s in option.cells
    )
    assert best_option(task, beliefs, largest, [0, 1], 799.0) is None
    cheap = best_option(task, beliefs, largest, [0, 1], 801.0)
    assert cheap.cells == ((0, 2),)
    assert best_option(task, beliefs, dict.fromkeys("abc", 1600), [0, 1, 2], 1e9) is None


def test_the_option_is_the_one_with_most_value_per_flop(make_task):
    task = make_task("ab", sizes=SIZES[:-1])
    beliefs = walks(task)
    largest = {"a": 0, "b": 0}
    best = best_option(task, beliefs, largest, [0, 1], 1e9)
    for s, size in enumerate(SIZES[:-1]):
        for cells in ([(0, s)], [(1, s)], [(0, s), (1, s)]):
            cost = sum(task.costs["ab"[m], size] for m, _ in cells)
            assert beliefs.fall_in_regret(cells) / (cost / task.full_cost) <= best.worth + 1e-9
