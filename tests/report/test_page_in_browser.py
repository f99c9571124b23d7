"""The page as a person meets it: in Chromium, on a phone and on a desk, light, dark and on paper.

Oracle: the browser's own layout, console and network log, and the contrast formula of WCAG 2.1 (1.4.3 and 1.4.11). Can
see: requests, errors, content wider than the screen, tables and pictures without a name, text that is hard to read.
Each check is shown to fail on a page with the fault that it looks for.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siglip_verify.report import html, load

from . import samples
from .browser import Browser, Page, executable

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]  # one Chromium for all

NAMES = ("passing", "mismatching", "unjudged", "hostile", "many", "large")
SAMPLE = Path(__file__).parents[2] / "reports" / "sample" / "report.html"
PHONE_BY_DAY, DESK_BY_NIGHT = (360, "light"), (1440, "dark")
LOOKS = [
    ("passing", *PHONE_BY_DAY),
    ("mismatching", *DESK_BY_NIGHT),
    ("unjudged", *PHONE_BY_DAY),
    ("hostile", *PHONE_BY_DAY),
    ("many", *PHONE_BY_DAY),
]
OTHER_LOOKS = [
    look for look in itertools.product(NAMES, (360, 1440), ("light", "dark")) if look not in LOOKS
]  # taken by `make test-long`

UNLABELLED = """
(() => {
  const named = e => (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ')
    .map(id => document.getElementById(id)?.textContent || '').join('')).trim();
  const faults = [];
  const check = (selector, holds) => document.querySelectorAll(selector).forEach(
    e => { if (!holds(e)) faults.push(selector + ': ' + e.outerHTML.slice(0, 80)); });
  check('table', e => e.caption && e.caption.textContent.trim());
  check('th', e => e.scope);
  check('svg', e => e.getAttribute('aria-hidden') == 'true' || (e.getAttribute('role') == 'img' && named(e)));
  check('section, [role=region], nav, article', named);
  check('a, summary, h1, h2, h3, h4', e => e.textContent.trim());
  check('.scroll, pre', e => e.tabIndex == 0);
  let level = 0;
  document.querySelectorAll('h1, h2, h3, h4').forEach(e => {
    if (+e.tagName[1] > level + 1) faults.push('heading: ' + e.outerHTML.slice(0, 80));
    level = +e.tagName[1];
  });
  if (document.querySelectorAll('h1').length != 1 || !document.documentElement.lang || !document.title)
    faults.push('page: one h1, a language and a title');
  return faults;
})()
"""
# Text needs 4.5 to 1 against what is behind it, 3 to 1 if it is large; so do marks and lines that carry meaning.
FAINT = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = colour => colour.slice(0, 3).map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const contrast = (a, b) => { const [hi, lo] = [light(a), light(b)].sort((x, y) => y - x);
    return (hi + .05) / (lo + .05); };
  const behind = e => { for (; e; e = e.parentElement) {
    const colour = rgba(getComputedStyle(e).backgroundColor); if (colour[3] == 255) return colour; }
    return rgba('white'); };
  const faults = [];
  const check = (e, colour, least) => { const ratio = contrast(rgba(colour), behind(e));
    if (ratio < least) faults.push(ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 100)); };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || e.closest('title, desc, style, .hidden')) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    check(e, e.closest('svg') ? style.fill : style.color, large ? 3 : 4.5);
  }
  document.querySelectorAll('.mark').forEach(e => check(e, getComputedStyle(e).fill, 3));
  document.querySelectorAll('.line, line.bound').forEach(e => check(e, getComputedStyle(e).stroke, 3));
  return faults;
})()
"""
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(e => {
  if (e.closest('svg') && e.tagName != 'svg') return false;
  for (let a = e.parentElement; a; a = a.parentElement) if (getComputedStyle(a).overflowX != 'visible') return false;
  const box = e.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + .5 || (box.left < -.5 && !e.matches('.skip'));
}).map(e => e.outerHTML.slice(0, 100))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if executable() is None:
        missing = "NOT CHECKED: no Chromium here, so nobody looked at the page; install it: apt-get install chromium"
        pytest.fail(missing) if "CI" in os.environ else pytest.skip(missing)
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


def written(folder: Path, name: str) -> Path:
    path = folder / f"{name}.html"
    path.write_bytes(html.render(getattr(samples, name)()))
    return path


def verdict(page: Page) -> str:
    """Return the first word of the page's one heading of the first level."""
    return page.evaluate("document.querySelector('h1').innerText.split(' ')[0]")


def open_details(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [*LOOKS, *(pytest.param(*look, marks=pytest.mark.long) for look in OTHER_LOOKS)]
)
def test_the_page_is_quiet_fits_and_can_be_read(
    browser: Browser, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    look(browser, written(tmp_path, name), getattr(samples, name)().verdict, width, scheme)


@pytest.mark.parametrize(("width", "scheme"), [PHONE_BY_DAY, pytest.param(*DESK_BY_NIGHT, marks=pytest.mark.long)])
def test_the_committed_sample_is_quiet_fits_and_can_be_read(browser: Browser, width: int, scheme: str) -> None:
    look(browser, SAMPLE, load(SAMPLE.with_name("report.json").read_bytes()).verdict, width, scheme)


def look(browser: Browser, path: Path, expected: str, width: int, scheme: str) -> None:
    with browser.page() as page:
        page.load(path, width=width, scheme=scheme)
        open_details(page)
        assert verdict(page) == expected.upper()
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("innerWidth") == width
        assert page.evaluate(FAINT) == []
        assert page.evaluate(UNLABELLED) == []
        assert page.evaluate("document.scripts.length") == 0
        assert page.errors == []
        assert page.requests == [path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_everything_is_open_dark_on_white_and_within_the_sheet(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    with browser.page() as page:
        page.load(written(tmp_path, "mismatching"), width=794, scheme=scheme, media="print")
        assert page.evaluate(FAINT) == []
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.querySelector('details table').getBoundingClientRect().height") > 100
        assert page.evaluate(TOO_WIDE) == []


def test_the_page_follows_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    path = written(tmp_path, "passing")
    seen: list[Any] = []
    for scheme in ("light", "dark"):
        with browser.page() as page:
            page.load(path, width=1440, scheme=scheme)
            seen.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(17, 21, 26)"]


def test_everything_can_be_reached_by_keyboard_in_the_order_of_the_page(browser: Browser, tmp_path: Path) -> None:
    with browser.page() as page:
        page.load(written(tmp_path, "mismatching"), width=1440, scheme="light")
        places: list[float] = []
        for _ in range(11):
            for kind in ("keyDown", "keyUp"):
                page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            if page.evaluate("document.activeElement.matches('.skip')"):
                assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
                continue
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            places.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
    assert len(places) == 10
    assert places == sorted(places)


def test_the_checks_see_what_they_look_for(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><title>bad</title><h1>bad</h1><h3>skipped</h3><p style='color:#999'>faint</p>"
        "<div style='width:3000px'>wide</div><table><tr><td>1</td></tr></table><svg role='img'></svg>"
        "<link rel='stylesheet' href='http://127.0.0.1:9/none.css'><script>console.error('loud')</script>"
    )
    with browser.page() as page:
        page.load(path, width=360, scheme="light")
        assert len(page.evaluate(TOO_WIDE)) == 1
        assert len(page.evaluate(FAINT)) == 1
        faults = [fault.partition(":")[0] for fault in page.evaluate(UNLABELLED)]
        assert faults == ["table", "svg", "heading", "page"]
        assert any("loud" in error for error in page.errors)
        assert "http://127.0.0.1:9/none.css" in page.requests
