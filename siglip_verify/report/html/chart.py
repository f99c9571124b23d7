"""What a chart is: positions on a small canvas, in the canvas's own units.

Here: the records that the `charts` template draws, and the axis that all charts share. Not here: what they show
(`share_chart`, `line_chart`), and how a mark looks. A unit is about a pixel on a phone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from siglip_verify.report.blocks import Tone

WIDTH, HEIGHT = 400.0, 240.0
TOP, BOTTOM = 40.0, HEIGHT - 40.0
CHARACTER = 7.0  # how wide a character of the small text is drawn, about


SHADES = 5  # so many densities can be told apart


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


class Dots(msgspec.Struct, frozen=True):
    """Many values of one tone, as one path: a dot for each."""

    path: str
    tone: Tone


class Shade(msgspec.Struct, frozen=True):
    """Places where equally many values lie, as one path of boxes; level 1 is few, `SHADES` is most."""

    path: str
    level: int


class Line(msgspec.Struct, frozen=True):
    """The values of one series joined up, and the names of those that share it at the right end."""

    points: tuple[tuple[float, float], ...]
    dash: int
    labels: tuple[Tick, ...]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart with everything that its template draws.

    Attributes:
        title: What it shows.
        subtitle: In which unit, and whether it was counted or measured.
        text: What it shows, for who cannot see it.
        x_name: What stands on the axis below.
        left, right: Where the plot begins and ends.
        dots: Values too many to name.
        shades: Values too many to draw.
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
    dots: tuple[Dots, ...] = ()
    shades: tuple[Shade, ...] = ()
    bound: float | None = None
    top: float = TOP
    bottom: float = BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def bands(sizes: Sequence[int], left: float, right: float) -> tuple[Callable[[int], float], tuple[Tick, ...]]:
    """Give each world size a band of the same width; name as many of them as there is room for."""
    order = sorted(set(sizes))
    band = (right - left) / len(order)
    every = max(1, math.ceil((len(str(order[-1])) + 1.5) * CHARACTER / max(band, 1.0)))

    def x_of(size: int) -> float:
        return left + (order.index(size) + 0.5) * band

    ticks = (Tick(at(x_of(size)), str(size) if index % every == 0 else "") for index, size in enumerate(order))
    return x_of, tuple(ticks)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move labels so that none covers another and all stay beside the plot, keeping their order.

    Labels of one height stand around it; of two heights that are near, each moves as little as it must.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    shared = Counter(heights)
    placed: list[float] = []
    for index in order:
        wanted = heights[index] - (shared[heights[index]] - 1) / 2 * gap
        placed.append(max(TOP, wanted) if not placed else max(wanted, placed[-1] + gap))
    highest = BOTTOM
    for turn in reversed(range(len(placed))):
        placed[turn] = min(placed[turn], highest)
        highest = placed[turn] - gap
    by_index = dict(zip(order, placed, strict=True))
    return [at(by_index[index]) for index in range(len(heights))]


def at(value: float) -> float:
    """Round a position to what can be seen."""
    return round(value, 1)
