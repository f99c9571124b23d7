"""Shares of the bound against W, a chart an exchange: every quantity a mark, the bound a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from siglip_verify.records import Cell
from siglip_verify.report import sections, words
from siglip_verify.report.html.chart import BOTTOM, TOP, WIDTH, Chart, Mark, Tick, at, bands

_LEFT, _RIGHT = 40.0, WIDTH - 6.0
_LEAST = -3  # smaller shares, as powers of ten, stand on the lower edge
_HEADROOM = 0.15
_TICKS = 5
_WIDEST_STEP = 8.0


def share_charts(cells: Sequence[Cell]) -> Iterator[Chart]:
    """Make one chart for each exchange, all to the same scale: W across, share of the bound upwards, logarithmic."""
    shares = [worst.share for cell in cells for worst in cell.worst.values()]
    beyond = [share for share in shares if not share <= 1]
    finite = [share for share in beyond if math.isfinite(share)]
    most = math.ceil(math.log10(max([10.0, *finite]))) + 1 if beyond else _HEADROOM
    for exchange in dict.fromkeys(cell.exchange for cell in cells):
        yield _share_chart(exchange, [cell for cell in cells if cell.exchange == exchange], most)


def _share_chart(exchange: str, cells: list[Cell], most: float) -> Chart:
    """Draw the shares of one exchange up to the power of ten `most`; what is not finite stands on the upper edge."""

    def height(share: float) -> float:
        exponent = math.log10(max(share, 10.0**_LEAST)) if math.isfinite(share) else most
        return at(BOTTOM - (min(exponent, most) - _LEAST) / (most - _LEAST) * (BOTTOM - TOP))

    x_of, x_ticks = bands([cell.world_size for cell in cells], _LEFT, _RIGHT)
    band = (_RIGHT - _LEFT) / len(x_ticks)
    exponents = range(_LEAST, math.floor(most) + 1, max(1, math.ceil((most - _LEAST) / _TICKS)))
    sizes = words.ranges(cell.world_size for cell in cells)
    return Chart(
        title=exchange,
        subtitle="share of the bound",
        text=f"{exchange}: worst error as a share of its bound at W = {sizes}. {_said(cells)}",
        x_name="W",
        left=_LEFT,
        right=_RIGHT,
        x_ticks=x_ticks,
        y_ticks=tuple(Tick(height(10.0**exponent), _power(exponent)) for exponent in exponents),
        marks=tuple(mark for cell in cells for mark in _marks(cell, x_of(cell.world_size), band, height)),
        bound=height(1.0),
    )


def _marks(cell: Cell, middle: float, band: float, height: Callable[[float], float]) -> Iterator[Mark]:
    groups = list(sections.QUANTITY_GROUPS.items())
    step = min(_WIDEST_STEP, band / (len(groups) + 1))
    if not cell.worst:
        title = f"{cell.exchange}, W = {cell.world_size}: no share, {cell.verdict}"
        yield Mark(at(middle), height(10.0**_LEAST), len(groups), cell.verdict, title)
    for index, (name, quantities) in enumerate(groups):
        shares = [cell.worst[quantity].share for quantity in quantities if quantity in cell.worst]
        if shares:
            share = max(shares, key=words.severity)
            x = middle + (index - (len(groups) - 1) / 2) * step
            title = f"{cell.exchange}, W = {cell.world_size}, {name}: {words.share(share)} of its bound"
            yield Mark(at(x), height(share), index, "pass" if share <= 1 else "mismatch", title)


def _said(cells: list[Cell]) -> str:
    nearest = words.nearest(cells)
    return f"Largest: {words.nearest_in_words(nearest)}." if nearest else "No case came to a judgement."


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if -4 < exponent < 4 else f"1e{exponent}"
