from itertools import combinations

import numpy as np
import pytest

from lensllm.reports.style import PALETTE, PAPER, compact, log_ticks, new_figure, save

# What is left of linear RGB for whom one kind of cone is missing: Machado et al., 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear sRGB, white point D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight):
    seen = [lab(SIGHT[sight] @ linear(color)) for color in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


def test_colours_stand_out_from_the_paper():
    light = [linear(color) @ [0.2126, 0.7152, 0.0722] for color in (PAPER, *PALETTE)]
    assert min((light[0] + 0.05) / (y + 0.05) for y in light[1:]) > 3


@pytest.mark.parametrize(
    ("low", "high"), [(3.4, 4.2), (0.98, 1.02), (1.4, 4.3), (150, 2e6), (1e-9, 1e9), (2, 2.0001)]
)
def test_an_axis_has_several_ticks_within_it(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert low * 0.999 <= ticks[0] < ticks[-1] <= high * 1.001
    assert len({compact(tick) for tick in ticks if tick >= 1000}) == sum(t >= 1000 for t in ticks)


def test_a_figure_is_the_same_file_every_time(tmp_path):
    for name in ("a", "b"):
        figure = new_figure(3, 2)
        figure.add_subplot().plot([1, 2], [1, 2], label="x")
        save(figure, tmp_path / name / "figure.png")
    for ending in ("png", "svg"):
        first, second = (tmp_path / name / f"figure.{ending}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
