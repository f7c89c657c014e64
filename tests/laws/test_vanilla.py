import numpy as np
import pytest

from lensllm.laws import VanillaLaw, fit_law


def test_equation():
    # (6 / 100^0.5 + 0.3)^2 = 0.9^2
    assert VanillaLaw()([100.0], [6.0, 0.5, 0.3, 2.0])[0] == pytest.approx(0.81)


def test_names_follow_alpha():
    assert VanillaLaw().param_names == ("scale", "beta", "irreducible_loss", "alpha")
    assert VanillaLaw(with_alpha=False).param_names == ("scale", "beta", "irreducible_loss")


def test_infinite_at_zero_unless_flat():
    law = VanillaLaw(with_alpha=False)
    assert np.isinf(law([0.0], [1.0, 0.5, 1.0])[0])
    assert law([0.0], [0.0, 0.5, 1.0])[0] == 1.0


def test_has_no_transition():
    assert np.isnan(VanillaLaw().transition_size([6.0, 0.5, 0.3, 2.0]))


def test_pure_power_cannot_tell_alpha(sizes):
    rng = np.random.default_rng(0)
    losses = 5.0 * sizes**-0.2 * np.exp(0.01 * rng.standard_normal(len(sizes)))
    fit = fit_law(VanillaLaw(), sizes, losses)
    named = fit.named_params
    assert named["irreducible_loss"] == 0.0
    assert any("cannot tell alpha" in warning for warning in fit.warnings)
    assert named["beta"] * named["alpha"] == pytest.approx(0.2, abs=0.01)
