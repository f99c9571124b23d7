"""Shares of the bound against W, a chart an exchange: every case a dot, many cases a density, the bound a line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from siglip_verify.records import Cell, Quantity
from siglip_verify.report import sections, words
from siglip_verify.report.blocks import Tone
from siglip_verify.report.html.chart import BOTTOM, SHADES, TOP, WIDTH, Chart, Dots, Mark, Shade, Tick, at, bands

DOTS_AT_MOST = 2_000  # cases of a loss; of more, a density is drawn

_LEFT, _RIGHT = 46.0, WIDTH - 8.0
_LEAST = -3  # smaller shares, as powers of ten, stand on the lower edge
_HEADROOM = 0.15
_TICKS = 5
_WIDEST_STEP = 14.0
_SPREAD = 0.7  # of a quantity's column is strewn with its dots
_BOX_HEIGHT = 5.0

Height = Callable[[float], float]


def share_charts(cells: Sequence[Cell]) -> Iterator[Chart]:
    """Make one chart for each exchange, all to the same scale: W across, share of the bound upwards, logarithmic."""
    shares = [worst.share for cell in cells for worst in cell.worst.values()]
    beyond = [share for share in shares if not share <= 1]
    finite = [share for share in beyond if math.isfinite(share)]
    most = math.ceil(math.log10(max([10.0, *finite]))) + 1 if beyond else _HEADROOM
    each_case = sum(cell.cases for cell in cells) <= DOTS_AT_MOST
    for exchange in dict.fromkeys(cell.exchange for cell in cells):
        yield _share_chart([cell for cell in cells if cell.exchange == exchange], most, each_case=each_case)


def _share_chart(cells: list[Cell], most: float, *, each_case: bool) -> Chart:
    """Draw the shares of one exchange up to the power of ten `most`; what is not finite stands on the upper edge."""

    def height(share: float) -> float:
        exponent = math.log10(max(share, 10.0**_LEAST)) if math.isfinite(share) else most
        return at(BOTTOM - (min(exponent, most) - _LEAST) / (most - _LEAST) * (BOTTOM - TOP))

    exchange = cells[0].exchange
    columns = _Columns(cells)
    exponents = range(_LEAST, math.floor(most) + 1, max(1, math.ceil((most - _LEAST) / _TICKS)))
    sizes = words.ranges(cell.world_size for cell in cells)
    return Chart(
        title=exchange,
        subtitle=words.plural(sum(cell.cases for cell in cells), "case"),
        text=f"{exchange}: error of every case as a share of its bound at W = {sizes}. {_said(cells)}",
        x_name="W",
        left=_LEFT,
        right=_RIGHT,
        x_ticks=columns.ticks,
        y_ticks=tuple(Tick(height(10.0**exponent), _power(exponent)) for exponent in exponents),
        marks=tuple(mark for cell in cells for mark in _marks(cell, columns, height)),
        dots=tuple(_dots(cells, columns, height)) if each_case else (),
        shades=() if each_case else tuple(_shades(cells, columns, height)),
        bound=height(1.0),
    )


class _Columns:
    """Where each world size and each quantity stands."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._x_of, self.ticks = bands([cell.world_size for cell in cells], _LEFT, _RIGHT)
        band = (_RIGHT - _LEFT) / len(self.ticks)
        self.step = min(_WIDEST_STEP, band / (len(sections.QUANTITY_GROUPS) + 1))

    def middle(self, world_size: int) -> float:
        return self._x_of(world_size)

    def x_of(self, world_size: int, group: int) -> float:
        return self._x_of(world_size) + (group - (len(sections.QUANTITY_GROUPS) - 1) / 2) * self.step


def _shares(cell: Cell) -> Iterator[tuple[int, float]]:
    """Give every share of a cell, with the place of its quantity."""
    for index, quantities in enumerate(sections.QUANTITY_GROUPS.values()):
        for quantity in quantities:
            yield from ((index, share) for share in cell.shares.get(quantity, ()))


# ------------------------------------------------------------------ every case
def _dots(cells: Sequence[Cell], columns: _Columns, height: Height) -> Iterator[Dots]:
    """Strew the dots of a quantity over its column, in the order of the cases and the same way each time."""
    paths: dict[Tone, list[str]] = {"": [], "mismatch": []}
    for cell in cells:
        for turn, (group, share) in enumerate(_shares(cell)):
            strewn = (turn * 0.618 % 1 - 0.5) * _SPREAD * columns.step
            x = columns.x_of(cell.world_size, group) + strewn
            paths["" if share <= 1 else "mismatch"].append(f"M{at(x):g} {height(share):g}h0")
    for tone, path in paths.items():
        if path:
            yield Dots("".join(path), tone)


def _shades(cells: Sequence[Cell], columns: _Columns, height: Height) -> Iterator[Shade]:
    """Count the shares of each column in boxes, and shade each by the logarithm of its count."""
    counts: Counter[tuple[float, int]] = Counter()
    for cell in cells:
        for group, share in _shares(cell):
            box = min(int((BOTTOM - height(share)) / _BOX_HEIGHT), int((BOTTOM - TOP) / _BOX_HEIGHT) - 1)
            counts[at(columns.x_of(cell.world_size, group)), box] += 1
    most = max(counts.values(), default=1)
    width = at(columns.step * 0.9)
    paths: dict[int, list[str]] = {level: [] for level in range(1, SHADES + 1)}
    for (x, box), count in sorted(counts.items()):
        level = 1 + round((SHADES - 1) * math.log(count) / math.log(most)) if most > 1 else SHADES
        top = at(BOTTOM - (box + 1) * _BOX_HEIGHT)
        paths[level].append(f"M{at(x - width / 2):g} {top:g}h{width:g}v{_BOX_HEIGHT:g}h-{width:g}z")
    yield from (Shade("".join(path), level) for level, path in paths.items() if path)


# ------------------------------------------------------------------ the worst
def _marks(cell: Cell, columns: _Columns, height: Height) -> Iterator[Mark]:
    groups = list(sections.QUANTITY_GROUPS.items())
    if not cell.worst:
        title = f"{cell.exchange}, W = {cell.world_size}: no share, {cell.verdict}"
        yield Mark(at(columns.middle(cell.world_size)), height(10.0**_LEAST), len(groups), cell.verdict, title)
    for index, (name, quantities) in enumerate(groups):
        share = _worst(cell, quantities)
        if share is not None:
            title = f"{cell.exchange}, W = {cell.world_size}, {name}: {words.share(share)} of its bound"
            tone: Tone = "pass" if share <= 1 else "mismatch"
            yield Mark(at(columns.x_of(cell.world_size, index)), height(share), index, tone, title)


def _worst(cell: Cell, quantities: Sequence[Quantity]) -> float | None:
    shares = [cell.worst[quantity].share for quantity in quantities if quantity in cell.worst]
    return max(shares, key=words.severity, default=None)


def _said(cells: list[Cell]) -> str:
    nearest = words.nearest(cells)
    return f"Largest: {words.nearest_in_words(nearest)}." if nearest else "No case came to a judgement."


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -4 < exponent < 4 else f"1e{exponent}"
