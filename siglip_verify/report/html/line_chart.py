"""Calls, payload and wire bytes against W, a line an exchange."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import msgspec

from siglip_verify.report import words
from siglip_verify.report.html.chart import BOTTOM, CHARACTER, TOP, WIDTH, Chart, Line, Mark, Tick, at, bands
from siglip_verify.result import MessageRow

_LOWER_BOUND = "lower bound"
_TICKS = 5
_LABEL_GAP = 12.0
_FAINT = 9  # the dash of the lower bound


class Series(msgspec.Struct, frozen=True):
    """One line: its name and its values by W, ascending."""

    name: str
    values: dict[int, int]

    @property
    def last(self) -> int:
        """The largest W that has a value."""
        return max(self.values)


def line_charts(rows: Sequence[MessageRow]) -> Iterator[Chart]:
    """Make charts of calls, payload and wire bytes against W, one line an exchange; none if there is but one W."""
    if len({row.world_size for row in rows}) < 2:
        return
    bound = Series(_LOWER_BOUND, {row.world_size: row.lower_bound_bytes for row in _ascending(rows)})
    payload = _series(rows, lambda row: row.counted_payload_bytes)
    wire = _series(rows, lambda row: row.wire_bytes)
    if calls := _series(rows, _calls):
        yield _line_chart("Calls", "a rank, counted", calls, words.count)
    if payload:
        yield _line_chart("Payload", "bytes a rank, counted", [*payload, bound], _bytes)
    if wire:
        yield _line_chart("Wire", "bytes a rank, measured", [*wire, bound], _bytes)


def _calls(row: MessageRow) -> int | None:
    if row.counted_messages is None and row.counted_collectives is None:
        return None
    return (row.counted_messages or 0) + (row.counted_collectives or 0)


def _ascending(rows: Sequence[MessageRow]) -> list[MessageRow]:
    return sorted(rows, key=lambda row: row.world_size)


def _series(rows: Sequence[MessageRow], value: Callable[[MessageRow], int | None]) -> list[Series]:
    """Collect one value by exchange and W; exchanges with the same values share a line."""
    by_exchange: dict[str, dict[int, int]] = {row.exchange: {} for row in rows}
    for row in _ascending(rows):
        number = value(row)
        if number is not None:
            by_exchange[row.exchange][row.world_size] = number
    furthest = max(row.world_size for row in rows)
    names: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for exchange, values in by_exchange.items():
        if values:
            until = "" if max(values) == furthest else f", W < {max(values) + 1}"
            names.setdefault(tuple(values.items()), []).append(exchange + until)
    return [Series(", ".join(exchanges), dict(values)) for values, exchanges in names.items()]


def _line_chart(title: str, subtitle: str, series: list[Series], say: Callable[[int], str]) -> Chart:
    steps = _steps(max(number for one in series for number in one.values.values()))
    left = 12 + CHARACTER * max(len(say(step)) for step in steps)
    right = WIDTH - 10 - CHARACTER * max(len(one.name) for one in series)
    x_of, x_ticks = bands([size for one in series for size in one.values], left, right)

    def height(number: int) -> float:
        return at(BOTTOM - number / steps[-1] * (BOTTOM - TOP))

    labels = _apart([height(one.values[one.last]) for one in series])
    ends = [f"{one.name} {words.count(one.values[one.last])} at W = {one.last}" for one in series]
    return Chart(
        title=title,
        subtitle=subtitle,
        text=f"{title}, {subtitle}, against W. {'; '.join(ends)}.",
        x_name="W",
        left=at(left),
        right=at(right),
        x_ticks=x_ticks,
        y_ticks=tuple(Tick(height(step), say(step)) for step in steps),
        marks=tuple(_marks(series, x_of, height)),
        lines=tuple(
            Line(
                points=tuple((at(x_of(size)), height(number)) for size, number in one.values.items()),
                dash=index if one.name != _LOWER_BOUND else _FAINT,
                label=one.name,
                label_y=labels[index],
            )
            for index, one in enumerate(series)
        ),
    )


def _marks(series: list[Series], x_of: Callable[[int], float], height: Callable[[int], float]) -> Iterator[Mark]:
    for one in series:
        for size, number in one.values.items() if one.name != _LOWER_BOUND else ():
            yield Mark(at(x_of(size)), height(number), 0, "", f"{one.name}, W = {size}: {words.count(number)}")


def _steps(largest: int) -> list[int]:
    """Return 0 and round steps up to at least the largest value."""
    unit = 10 ** max(0, math.floor(math.log10(max(largest, 1) / _TICKS)))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * _TICKS >= largest)
    return [step * index for index in range(max(1, math.ceil(largest / step)) + 1)]


def _apart(heights: Sequence[float]) -> list[float]:
    """Move labels so that none covers another, keeping their order and the lowest inside the plot."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed = {index: heights[index] for index in order}
    for below, above in pairwise(order):
        placed[above] = min(placed[above], placed[below] - _LABEL_GAP)
    return [at(placed[index]) for index in range(len(heights))]


def _bytes(value: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value} B"
