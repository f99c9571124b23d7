"""Charts with two logarithmic axes, some beside each other in one SVG file: something against W, a line a form.

Colour tells the exchange, the dash what else the form is, and each line has its name at its right end, so that nothing
hangs on colour alone. The file stands alone and follows the viewer's light or dark scheme. Here: drawing. Not here:
what is shown (`simulation.charts`, `bench.charts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

WIDTH, HEIGHT, _GAP = 430.0, 300.0, 20.0
_LEFT, _TOP, _BOTTOM = 58.0, 52.0, 40.0
_LABEL_GAP, _CHARACTER = 12.0, 6.0
_DECADES_AT_LEAST = 1.0
_STYLE = """
svg { font: 11px system-ui, sans-serif; color-scheme: light dark; --ink: #222; --faint: #ccc; --paper: #fff }
.bidir { --line: #0b62c4 } .shift { --line: #b35900 } .reduce { --line: #a3195b } .gather { --line: #1b7837 }
.floor { --line: #666 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #ddd; --faint: #444; --paper: #181818 }
  .bidir { --line: #6db3ff } .shift { --line: #ffab5c } .reduce { --line: #ff7eb6 } .gather { --line: #7fd89a }
  .floor { --line: #aaa }
}
rect { fill: var(--paper) } text { fill: var(--ink) } .title { font-weight: 600; font-size: 13px }
.grid { stroke: var(--faint) } .limit { stroke: var(--ink); stroke-dasharray: 8 4 }
.series polyline { fill: none; stroke: var(--line); stroke-width: 1.6 }
.series circle { fill: var(--line) } .series text { fill: var(--line) }
"""


class Series(NamedTuple):
    """One line.

    Attributes:
        name: Stands at its end.
        kind: Its colour: an exchange, or `floor`.
        dash: Its dashes, as SVG wants them; empty for none.
        points: W and value; only positive values are shown.
    """

    name: str
    kind: str
    dash: str
    points: Sequence[tuple[int, float]]


class Panel(NamedTuple):
    """One chart: its name and unit, its lines, and a line across it."""

    title: str
    unit: str
    series: Sequence[Series]
    limit: tuple[str, float] | None = None


def document(title: str, text: str, panels: Sequence[Panel], say: Callable[[float], str], *, columns: int = 3) -> bytes:
    """Draw panels beside each other as an SVG document.

    Args:
        title: Stands above them.
        text: What they show, for who cannot see it.
        panels: The charts.
        say: How a value is said when it is pointed at.
        columns: How many stand in a row.
    """
    width = min(columns, len(panels)) * (WIDTH + _GAP) - _GAP
    height = math.ceil(len(panels) / columns) * HEIGHT
    drawn = "\n".join(
        f'<g transform="translate({index % columns * (WIDTH + _GAP):g} {24 + index // columns * HEIGHT:g})">'
        f"{''.join(_panel(panel, say))}</g>"
        for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + 24:g}" role="img">\n'
        f"<title>{escape(text)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%"/>\n<text class="title" x="8" y="16">{escape(title)}</text>\n'
        f"{drawn}\n</svg>\n"
    ).encode()


def _panel(panel: Panel, say: Callable[[float], str]) -> Iterator[str]:
    lines = [(one, [point for point in one.points if point[1] > 0]) for one in panel.series]
    lines = [(one, points) for one, points in lines if points]
    values = [value for _, points in lines for _, value in points] + ([panel.limit[1]] if panel.limit else [])
    if not values:
        return
    right = WIDTH - 10 - _CHARACTER * max((len(one.name) for one, _ in lines), default=0)
    sizes = sorted({size for one in panel.series for size, _ in one.points})
    across, down = _across(sizes, right), _down(values)
    yield f'<text class="title" x="8" y="18">{panel.title}</text><text x="8" y="34">{panel.unit}</text>'
    yield from _grid(sizes, across, down, values, right)
    if panel.limit:
        name, value = panel.limit
        yield _rule("limit", _LEFT, down(value), right, down(value))
        yield f'<text x="{_LEFT + 4:g}" y="{down(value) - 4:.1f}">{name}, {say(value)}</text>'
    ends = _apart([down(points[-1][1]) for _, points in lines])
    for (one, points), end in zip(lines, ends, strict=True):
        yield from _series(one, [(across(size), down(value), size, value) for size, value in points], right, end, say)


def _series(
    one: Series,
    points: Sequence[tuple[float, float, int, float]],
    right: float,
    end: float,
    say: Callable[[float], str],
) -> Iterator[str]:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    yield f'<g class="series {one.kind}"><polyline points="{at}" stroke-dasharray="{one.dash}"/>'
    for x, y, size, value in points:
        title = f"<title>{one.name}, W = {size}: {say(value)}</title>"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4">{title}</circle>'
    yield f'<text x="{right + 8:g}" y="{end + 4:.1f}">{one.name}</text></g>'


def _grid(
    sizes: Sequence[int],
    across: Callable[[int], float],
    down: Callable[[float], float],
    values: Sequence[float],
    right: float,
) -> Iterator[str]:
    for exponent in range(*_decades(values)):
        y = down(10.0**exponent)
        yield _rule("grid", _LEFT, y, right, y)
        yield f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{_power(exponent)}</text>'
    every = max(1, math.ceil(len(sizes) / 8))
    for size in sizes[::every]:
        x, foot = across(size), HEIGHT - _BOTTOM
        yield _rule("grid", x, foot, x, foot + 4)
        yield f'<text x="{x:.1f}" y="{foot + 17:g}" text-anchor="middle">{size}</text>'
    yield f'<text x="{(_LEFT + right) / 2:g}" y="{HEIGHT - 6:g}" text-anchor="middle">W</text>'


def _rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _across(sizes: Sequence[int], right: float) -> Callable[[int], float]:
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    room = right - _LEFT
    return lambda size: _LEFT + room * ((math.log2(size) - first) / (last - first) if last > first else 0.5)


def _down(values: Sequence[float]) -> Callable[[float], float]:
    low, high = (float(end) for end in _decades(values))
    low, high = low, high - 1 if high - 1 > low else low + _DECADES_AT_LEAST
    room = HEIGHT - _TOP - _BOTTOM
    return lambda value: _TOP + room * (1 - (math.log10(value) - low) / (high - low))


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the range of powers of ten that takes in all values."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1


def _apart(heights: Sequence[float]) -> list[float]:
    """Move labels so that none covers another, from the lowest up, keeping their order."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed = dict(enumerate(heights))
    for below, above in pairwise(order):
        placed[above] = min(placed[above], placed[below] - _LABEL_GAP)
    return [placed[index] for index in range(len(heights))]


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -4 < exponent < 7 else f"1e{exponent}"
