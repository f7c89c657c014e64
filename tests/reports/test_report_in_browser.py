"""The report as Chromium shows it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from lensllm.reports.html_report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Debian's package chromium is not installed"
)
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-quic"),
)
# Ratio of contrast of every text with the colour behind it, below what WCAG AA asks for its size.
CONTRAST = """() => {
  const rgb = color => color.match(/[\\d.]+/g).map(Number);
  const linear = v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = element => {
    const color = rgb(getComputedStyle(element).backgroundColor);
    return color.length < 4 || color[3] > 0 ? color : behind(element.parentElement);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.data.trim() || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
    const svg = element.closest("svg");
    const both = [rgb(svg ? style.fill : style.color), behind(svg || element)].map(luminance);
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([node.data.trim().slice(0, 40), ratio]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """Opens a report; afterwards nothing may have been logged, thrown, asked for or failed."""
    wrong, contexts = [], []

    def opened(folder, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        url = (Path(folder) / "report.html").as_uri()
        page.on("request", lambda request: request.url != url and wrong.append(request.url))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [item for item in wrong if item != "data:,"] == []


def column(page, number):
    return page.locator(f".leaderboard tbody tr > :nth-child({number})").all_inner_texts()


def test_headers_sort_by_pointer_and_keyboard(show, folder):
    page = show(folder)
    assert column(page, 3) == ["2.000", "3.000", "–"]
    button = page.get_by_role("button", name="Predicted")
    button.click()
    button.click()
    head = page.locator(".leaderboard thead th").nth(2)
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 3) == ["3.000", "2.000", "–"]  # what is not known stays last
    assert page.get_by_role("status").inner_text() == "Sorted by Predicted, descending"
    page.get_by_role("button", name="Candidate").focus()
    page.keyboard.press("Enter")
    assert column(page, 2) == ["a/one", "b/two", "c/three"]
    assert head.get_attribute("aria-sort") is None


def test_links_lead_to_what_they_name(show, folder):
    page = show(folder)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    for link in page.locator("nav a, .leaderboard a").all():
        target = page.locator(link.get_attribute("href"))
        link.click()
        assert target.evaluate("e => Math.abs(e.getBoundingClientRect().top) < innerHeight")
        assert link.inner_text().split()[0] in target.inner_text()


def test_values_show_under_the_pointer(show, folder):
    page = show(folder, viewport={"width": 1280, "height": 900})
    mark = page.locator('.wide [data-tips="0"] .tip').nth(4)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    loss = 60 / (30 + 3200**0.4) + 1
    assert page.locator("#tip").inner_text() == f"a/one: {loss:.4f} at D = 3\N{NO-BREAK SPACE}200"
    assert page.locator('.wide [data-curve="0"].on').count() > 0
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(show, folder, scheme):
    page = show(folder, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]


def test_a_phone_never_scrolls_sideways(show, folder, hostile_folder):
    for each in (folder, hostile_folder):
        page = show(each, viewport={"width": 360, "height": 780}, has_touch=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".narrow svg").is_visible()
        assert page.locator(".wide svg").is_hidden()


def test_all_columns_of_the_leaderboard_fit_on_a_laptop(show, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    record = json.loads((copy / "selection.json").read_text(encoding="utf-8"))
    for row in record["ranking"]:
        row |= {"latency_ms": 123.4, "licence": "apache-2.0", "memory_gb": 13.5}
    (copy / "selection.json").write_text(json.dumps(record), encoding="utf-8")
    write_report(copy)
    page = show(copy, viewport={"width": 1280, "height": 800})
    assert page.locator(".leaderboard thead th").count() == 12
    table = page.locator(".scroll", has=page.locator(".leaderboard"))
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_hostile_names_do_nothing(show, hostile_folder):
    page = show(hostile_folder)
    page.wait_for_timeout(100)
    assert page.locator("img").count() == 0
    assert column(page, 2)[0] == "<img src=x onerror=alert(1)>"
    assert page.title().startswith("<img src=x onerror=alert(1)>")


def test_it_prints(show, folder, tmp_path):
    page = show(folder, color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()


def test_it_reads_without_scripts(show, folder):
    page = show(folder, java_script_enabled=False)
    assert page.locator(".wide title").first.text_content().startswith("a/one: ")
