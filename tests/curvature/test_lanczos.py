from __future__ import annotations

import numpy as np
import pytest
import torch

from lensllm.curvature import lanczos
from lensllm.curvature.lanczos import positive_quadratic_form


def symmetric(values, seed=0):
    rng = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return vectors, torch.tensor(vectors @ np.diag(values) @ vectors.T)


def test_equals_the_dense_positive_part_with_negative_curvature():
    values = np.concatenate([np.linspace(-3, -0.1, 20), np.zeros(30), np.linspace(0.1, 5, 20)])
    vectors, matrix = symmetric(values)
    v = np.random.default_rng(1).normal(size=70)
    exact = float(((vectors.T @ v) ** 2 * np.maximum(values, 0)).sum())
    found = positive_quadratic_form(lambda x: matrix @ x, torch.tensor(v), 70, tolerance=0)
    assert found.positive == pytest.approx(exact, rel=1e-9)
    assert found.total == pytest.approx(float(torch.tensor(v) @ matrix @ torch.tensor(v)))
    assert found.total < 0.8 * found.positive
    # Distinct eigenvalues, not dimensions, count: 41 steps suffice.
    assert found.n_products <= 42
    short = positive_quadratic_form(lambda x: matrix @ x, torch.tensor(v), 12, tolerance=0)
    assert short.positive == pytest.approx(exact, rel=0.05)
    assert short.n_products == 12


def test_a_run_cut_off_is_nearer_than_its_last_sum(monkeypatch):
    """Eigenvalues of both signs that crowd at 0, as a Hessian has them."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=400) ** 3
    matrix = torch.diag(torch.tensor(values))
    first_moment, sums = lanczos._first_moment, []
    monkeypatch.setattr(
        lanczos, "_first_moment", lambda *t: sums.append(first_moment(*t)) or sums[-1]
    )
    errors = []
    for k in range(12, 30):
        v = torch.tensor(rng.normal(size=400))
        exact = float((v.numpy() ** 2 * np.maximum(values, 0)).sum())
        found = positive_quadratic_form(lambda x: matrix @ x, v, k, tolerance=0)
        last = float(v @ v) * sums[-1]
        errors.append([found.positive / exact - 1, last / exact - 1])
        assert found.change * last == pytest.approx(2 * abs(last - found.positive))
    mean, last = np.sqrt(np.mean(np.square(errors), axis=0))
    assert mean < 0.7 * last


def test_stops_when_it_has_converged():
    _, matrix = symmetric(np.concatenate([[40.0, -7.0], np.full(98, 0.01)]))
    v = torch.tensor(np.random.default_rng(2).normal(size=100))
    found = positive_quadratic_form(lambda x: matrix @ x, v, 50, tolerance=0)
    assert found.n_products == 3


def test_negative_definite_and_zero_vectors():
    _, matrix = symmetric(-np.linspace(1, 2, 5))
    v = torch.ones(5, dtype=torch.float64)
    assert positive_quadratic_form(lambda x: matrix @ x, v).positive == pytest.approx(0.0)
    zero = positive_quadratic_form(lambda x: matrix @ x, torch.zeros(5))
    assert (zero.positive, zero.n_products) == (0.0, 0)


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        positive_quadratic_form(lambda x: x, torch.ones(2), n_steps=0)
    with pytest.raises(ValueError, match="finite Hessian-vector products"):
        positive_quadratic_form(lambda x: x * np.nan, torch.ones(2))
