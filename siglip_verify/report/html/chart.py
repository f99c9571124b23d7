"""What a chart is: positions on a small canvas, in the canvas's own units.

Here: the records that the `charts` template draws, and the axis that all charts share. Not here: what they show
(`share_chart`, `line_chart`), and how a mark looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from siglip_verify.report.blocks import Tone

WIDTH, HEIGHT = 260.0, 200.0
TOP, BOTTOM = 34.0, HEIGHT - 32.0
CHARACTER = 5.9  # how wide a character of the small text is drawn, about


class Tick(msgspec.Struct, frozen=True):
    """A place on an axis, and what is written there."""

    at: float
    text: str


class Mark(msgspec.Struct, frozen=True):
    """One value: where it stands, the shape that says which series it is of, and what it says when pointed at."""

    x: float
    y: float
    shape: int
    tone: Tone
    title: str


class Line(msgspec.Struct, frozen=True):
    """The values of one series joined up, and its name at the right end."""

    points: tuple[tuple[float, float], ...]
    dash: int
    label: str
    label_y: float


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart with everything that its template draws.

    Attributes:
        title: What it shows.
        subtitle: In which unit, and whether it was counted or measured.
        text: What it shows, for who cannot see it.
        x_name: What stands on the axis below.
        left, right: Where the plot begins and ends.
        bound: Height of the line that marks the bound, if there is one.
    """

    title: str
    subtitle: str
    text: str
    x_name: str
    left: float
    right: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    bound: float | None = None
    top: float = TOP
    bottom: float = BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def bands(sizes: Sequence[int], left: float, right: float) -> tuple[Callable[[int], float], tuple[Tick, ...]]:
    """Give each world size a band of the same width; name as many of them as there is room for."""
    order = sorted(set(sizes))
    band = (right - left) / len(order)
    every = max(1, math.ceil(len(order) * 2.5 * CHARACTER / (right - left)))

    def x_of(size: int) -> float:
        return left + (order.index(size) + 0.5) * band

    ticks = (Tick(at(x_of(size)), str(size) if index % every == 0 else "") for index, size in enumerate(order))
    return x_of, tuple(ticks)


def at(value: float) -> float:
    """Round a position to what can be seen."""
    return round(value, 1)
