import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgba

from lensllm.laws import RectifiedLaw, VanillaLaw, fit_law
from lensllm.reports.curves_figure import CurvePlot, draw_curves, save_curves

SIZES = np.concatenate([[0.0], 200.0 * 2.0 ** np.arange(8)])
LOSSES = RectifiedLaw()(SIZES, [60.0, 0.5, 30.0, 1.0])


@pytest.fixture
def plot():
    rng = np.random.default_rng(0)
    losses = LOSSES * np.exp(0.01 * rng.standard_normal(len(SIZES)))
    fit = fit_law(RectifiedLaw(), SIZES[1:7], losses[1:7])
    return CurvePlot("gpt2, toy", SIZES, losses, [fit], n_samples_full=1.6e6, notes=["a note"])


def lines(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def test_fitted_points_are_filled_and_others_hollow(plot):
    axes = draw_curves([plot]).axes[0]
    filled, hollow = lines(axes, "o")
    assert filled.get_xdata().tolist() == SIZES[1:7].tolist()
    assert filled.get_ydata() == pytest.approx(plot.losses[1:7])
    assert hollow.get_xdata().tolist() == [100.0, *SIZES[7:]]
    assert to_hex(hollow.get_markerfacecolor()) == "#ffffff"


def test_curve_is_the_fit_up_to_the_full_size(plot):
    axes = draw_curves([plot]).axes[0]
    curve = next(line for line in axes.lines if len(line.get_xdata()) > 100)
    assert curve.get_xdata()[-1] == pytest.approx(1.6e6)
    low, median, high = plot.fits[0].posterior.band(curve.get_xdata(), plot.level)
    assert curve.get_ydata() == pytest.approx(median)
    assert (low <= median).all()
    assert (median <= high).all()


def test_interval_is_the_posteriors(plot):
    axes = draw_curves([plot]).axes[0]
    vertices = axes.collections[0].get_paths()[0].vertices
    at_end = vertices[np.isclose(vertices[:, 0], 1.6e6)][:, 1]
    low, high = plot.fits[0].posterior.interval(1.6e6, 0.8, noise=False)
    assert at_end.min() == pytest.approx(low[0], rel=0.02)
    assert at_end.max() == pytest.approx(high[0], rel=0.02)


def test_phases_meet_at_the_transition(plot):
    axes = draw_curves([plot]).axes[0]
    size = plot.fits[0].transition_size
    pre_power, power = axes.patches[:2]
    assert pre_power.get_x() + pre_power.get_width() == pytest.approx(size)
    assert power.get_x() == pytest.approx(size)
    assert to_hex(pre_power.get_facecolor()) != to_hex(power.get_facecolor())
    assert any(line.get_linestyle() == "--" and line.get_xdata()[0] == size for line in axes.lines)


def test_zero_has_its_own_place(plot):
    axes = draw_curves([plot]).axes[0]
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert axes.get_xticks()[0] == 100.0
    used = fit_law(RectifiedLaw(), SIZES, LOSSES)
    axes = draw_curves([CurvePlot("used", SIZES, LOSSES, [used])]).axes[0]
    (at_zero,) = lines(axes, "_")[0].get_ydata()
    assert at_zero == pytest.approx(used.posterior.band(0.0)[1][0])
    assert at_zero == pytest.approx(LOSSES[0], rel=1e-3)


def test_a_law_without_transition_has_no_phases():
    fit = fit_law(VanillaLaw(with_alpha=False), SIZES[1:], LOSSES[1:])
    axes = draw_curves([CurvePlot("no phases", SIZES[1:], LOSSES[1:], [fit])]).axes[0]
    assert not axes.patches


def test_several_laws_are_told_apart(plot):
    second = fit_law(VanillaLaw(with_alpha=False), SIZES[1:7], plot.losses[1:7])
    both = CurvePlot("two laws", SIZES, plot.losses, [plot.fits[0], second])
    axes = draw_curves([both]).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.split()[0] for label in labels] == ["rectified", "power"]
    colors = {to_rgba(line.get_color()) for line in axes.lines if len(line.get_xdata()) > 100}
    assert len(colors) == 2


def test_points_alone():
    axes = draw_curves([CurvePlot("points", SIZES, LOSSES)]).axes[0]
    assert lines(axes, "o")[0].get_xdata()[0] == 100.0
    assert axes.get_legend() is None


def test_a_prediction_far_below_the_points_is_within_the_axes():
    plot = CurvePlot("a", np.array([25.0, 50.0]), np.array([2.0, 1.9]), prediction=(0.1, 0.05, 0.2))
    low, high = draw_curves([plot]).axes[0].get_ylim()
    assert low < 0.05
    assert high > 2.0


def test_pages(plot, tmp_path):
    files = save_curves([plot] * 5, tmp_path / "new", "a/b c", per_page=3)
    assert [file.name for file in files] == ["a_b_c_1.png", "a_b_c_2.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert not pyplot.get_fignums()


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="got none"):
        draw_curves([])
    with pytest.raises(ValueError, match="got none for 'only zero'"):
        draw_curves([CurvePlot("only zero", np.zeros(1), np.ones(1))])
