"""Charts of a simulation, as one SVG file: step, exposed communication and memory against W.

Both axes are logarithmic. Colour tells the exchange, the dash what is kept in memory, and each line has its name at its
right end, so that nothing hangs on colour alone. The file stands alone and follows the viewer's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from siglip_verify.report.simulation.tables import significant
from siglip_verify.simulate import Cost, Form, Simulation

_WIDTH, _HEIGHT, _GAP = 430.0, 300.0, 20.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 112.0, 52.0, 40.0
_LABEL_GAP = 12.0
_DECADES_AT_LEAST = 1.0
_DASHES = {"autograd": "", "chunked": "6 3", "constant": "2 3"}
_STYLE = """
svg { font: 11px system-ui, sans-serif; color-scheme: light dark; --ink: #222; --faint: #ccc; --paper: #fff }
.bidir { --line: #0b62c4 } .shift { --line: #b35900 } .reduce { --line: #a3195b } .gather { --line: #1b7837 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #ddd; --faint: #444; --paper: #181818 }
  .bidir { --line: #6db3ff } .shift { --line: #ffab5c } .reduce { --line: #ff7eb6 } .gather { --line: #7fd89a }
}
rect { fill: var(--paper) } text { fill: var(--ink) } .title { font-weight: 600; font-size: 13px }
.grid { stroke: var(--faint) } .limit { stroke: var(--ink); stroke-dasharray: 8 4 }
.series polyline { fill: none; stroke: var(--line); stroke-width: 1.6 }
.series circle { fill: var(--line) } .series text { fill: var(--line) }
"""


class _Panel(NamedTuple):
    """One chart: its name and unit, what it shows of a cost, and a line across it."""

    title: str
    unit: str
    value: Callable[[Cost], float]
    limit: tuple[str, float] | None = None


def charts(simulation: Simulation) -> bytes:
    """Draw a simulation as an SVG document."""
    setup = simulation.setup
    panels = [
        _Panel("Step", "ms, modelled", _step_ms),
        _Panel("Exposed communication", "ms, modelled", _exposed_ms),
        _Panel("Held by a rank", "GB, modelled", _held_gbytes, ("device", setup.cluster.memory_gbytes)),
    ]
    width = len(panels) * (_WIDTH + _GAP) - _GAP
    said = f"{setup.cluster.name}, b = {setup.batch}, d = {setup.dim}, {setup.dtype}"
    drawn = "\n".join(
        f'<g transform="translate({index * (_WIDTH + _GAP):g} 24)">{"".join(_panel(panel, simulation))}</g>'
        for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {_HEIGHT + 24:g}" role="img">\n'
        f"<title>Modelled cost of the exchanges: {escape(said)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%"/>\n<text class="title" x="8" y="16">{escape(said)}</text>\n{drawn}\n</svg>\n'
    ).encode()


def _step_ms(cost: Cost) -> float:
    return cost.step_s * 1e3


def _exposed_ms(cost: Cost) -> float:
    return cost.exposed_s * 1e3


def _held_gbytes(cost: Cost) -> float:
    return cost.memory.peak_bytes / 1e9


def _panel(panel: _Panel, simulation: Simulation) -> Iterator[str]:
    series = [(form, _points(form, panel, simulation)) for form in simulation.forms]
    values = [value for _, points in series for _, value in points] + ([panel.limit[1]] if panel.limit else [])
    if not values:
        return
    across, down = _across(simulation.world_sizes), _down(values)
    yield f'<text class="title" x="8" y="18">{panel.title}</text><text x="8" y="34">{panel.unit}</text>'
    yield from _grid(simulation.world_sizes, across, down, values)
    if panel.limit:
        name, value = panel.limit
        yield _rule("limit", _LEFT, down(value), _WIDTH - _RIGHT, down(value))
        yield f'<text x="{_LEFT + 4:g}" y="{down(value) - 4:.1f}">{name}, {significant(value)}</text>'
    ends = _apart([down(points[-1][1]) for _, points in series if points])
    for (form, points), end in zip(((form, points) for form, points in series if points), ends, strict=True):
        yield from _series(form, [(across(size), down(value), size, value) for size, value in points], end)


def _points(form: Form, panel: _Panel, simulation: Simulation) -> list[tuple[int, float]]:
    """Return what a logarithmic scale can show."""
    found = ((cost.world_size, panel.value(cost)) for cost in simulation.costs if cost.form == form)
    return [(size, value) for size, value in found if value > 0]


def _series(form: Form, points: Sequence[tuple[float, float, int, float]], end: float) -> Iterator[str]:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    yield f'<g class="series {form.exchange}"><polyline points="{at}" stroke-dasharray="{_DASHES[form.memory]}"/>'
    for x, y, size, value in points:
        title = f"<title>{form}, W = {size}: {significant(value)}</title>"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4">{title}</circle>'
    yield f'<text x="{_WIDTH - _RIGHT + 8:g}" y="{end + 4:.1f}">{form}</text></g>'


def _grid(
    sizes: Sequence[int], across: Callable[[int], float], down: Callable[[float], float], values: Sequence[float]
) -> Iterator[str]:
    for exponent in range(*_decades(values)):
        y = down(10.0**exponent)
        yield _rule("grid", _LEFT, y, _WIDTH - _RIGHT, y)
        yield f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{_power(exponent)}</text>'
    every = max(1, math.ceil(len(sizes) / 8))
    for size in sizes[::every]:
        x, foot = across(size), _HEIGHT - _BOTTOM
        yield _rule("grid", x, foot, x, foot + 4)
        yield f'<text x="{x:.1f}" y="{foot + 17:g}" text-anchor="middle">{size}</text>'
    yield f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 6:g}" text-anchor="middle">W</text>'


def _rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _across(sizes: Sequence[int]) -> Callable[[int], float]:
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    room = _WIDTH - _LEFT - _RIGHT
    return lambda size: _LEFT + room * ((math.log2(size) - first) / (last - first) if last > first else 0.5)


def _down(values: Sequence[float]) -> Callable[[float], float]:
    low, high = (float(end) for end in _decades(values))
    low, high = low, high - 1 if high - 1 > low else low + _DECADES_AT_LEAST
    room = _HEIGHT - _TOP - _BOTTOM
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
