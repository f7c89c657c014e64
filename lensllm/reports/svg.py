"""Figures as SVG within a page: the page's colours, and values that show under the pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib.figure import Figure

from lensllm.reports.style import GRID, INK, MUTED, OTHER, PALETTE, PAPER, SAND, SKY, svg_text
from lensllm.system.harmless import plain

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    OTHER: "--other",
    SAND: "--sand",
    SKY: "--sky",
    **{color: f"--c{place}" for place, color in enumerate(PALETTE)},
}
TIPS, CURVE = "tips-", "curve-"  # of an artist's gid: values to show, lines to bring forward
ET.register_namespace("", _SVG)


def page_svg(
    figure: Figure, name: str, label: str, tips: Mapping[str, Sequence[str]] | None = None
) -> Markup:
    """A figure as an SVG element of a page.

    Args:
        figure: The figure, in the colours of `lensllm.reports.style`, which become the page's.
        name: A name that no other figure of the page has.
        label: What the figure shows, for those who do not see it.
        tips: By the `gid` of a line of markers, a text for each marker, as a tooltip.

    Returns:
        Markup without scripts, styles or references to anything outside.
    """
    root = ET.fromstring(svg_text(figure))
    for child in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(child)
    for child in root.findall(f"{{{_SVG}}}defs"):
        if child.find(f"{{{_SVG}}}clipPath") is None:  # it holds a style
            root.remove(child)
    for size in ("width", "height", "version"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": plain(label)}
    for element in root.iter():
        _rewrite(element, name, tips or {})
    return Markup(re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode")))


def _rewrite(element: ET.Element, name: str, tips: Mapping[str, Sequence[str]]) -> None:
    """Make an element's names, colours and numbers those of the page."""
    own = element.attrib
    identity = own.pop("id", "")
    if element.tag in (f"{{{_SVG}}}path", f"{{{_SVG}}}clipPath") and identity:
        own["id"] = f"{name}-{identity}"
    if identity.startswith(CURVE):
        own["data-curve"] = identity.removeprefix(CURVE)
    if identity.startswith(TIPS):
        own["data-tips"] = identity.removeprefix(TIPS)
        marks = element.findall(f".//{{{_SVG}}}use")
        for mark, text in zip(marks, tips[identity], strict=True):
            mark.attrib["class"] = "tip"
            ET.SubElement(mark, f"{{{_SVG}}}title").text = plain(text)
    if _HREF in own:
        own["href"] = f"#{name}-{own.pop(_HREF)[1:]}"
    if "clip-path" in own:
        own["clip-path"] = own["clip-path"].replace("#", f"#{name}-")
    if "style" in own:
        own["style"] = _page_style(own["style"])
    for place in ("d", "x", "y"):
        if place in own:
            own[place] = re.sub(r"\s+", " ", re.sub(r"(\.\d)\d+", r"\1", own[place]))


def _page_style(style: str) -> str:
    """Colours as variables of the page, in its font."""
    style = re.sub(r"font-family:[^;]*;? ?", "", style)
    return re.sub(r"#[0-9a-f]{6}", lambda hit: _variable(hit[0]), style)


def _variable(color: str) -> str:
    return f"var({_VARIABLES[color]})" if color in _VARIABLES else color
