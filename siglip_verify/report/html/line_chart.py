"""Lines against W: one a series, each with its name at its right end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from siglip_verify.report.html.chart import BOTTOM, CHARACTER, TOP, WIDTH, Chart, Line, Mark, Tick, apart, at, bands

_TICKS = 5
_LABEL_GAP = 15.0
_LEAST = 1e-12  # what is smaller is drawn as nothing
_FAINT = 9  # the dash of a line that is no series

Say = Callable[[float], str]


class Series(msgspec.Struct, frozen=True):
    """One line: whose values it shows, by W, ascending; a faint one stands for no exchange and has no marks."""

    names: tuple[str, ...]
    values: dict[int, float]
    faint: bool = False

    @property
    def name(self) -> str:
        """All of its names."""
        return ", ".join(self.names)

    @property
    def last(self) -> int:
        """The largest W that has a value."""
        return max(self.values)


def series_of(values: Mapping[str, Mapping[int, float]]) -> list[Series]:
    """Make a line of each name that has values; names with the same values share a line."""
    furthest = max((size for by_size in values.values() for size in by_size), default=0)
    names: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for name, by_size in values.items():
        if by_size:
            until = "" if max(by_size) == furthest else f", W < {max(by_size) + 1}"
            names.setdefault(tuple(sorted(by_size.items())), []).append(name + until)
    return [Series(tuple(shared), dict(line)) for line, shared in names.items()]


def line_chart(title: str, subtitle: str, series: Sequence[Series], say: Say, *, powers: bool = False) -> Chart:
    """Draw lines against W, from zero up, or by powers of ten.

    Args:
        title: What it shows.
        subtitle: In which unit, and whether counted, measured or modelled.
        series: One line each; at least one.
        say: Writes a value.
        powers: Whether both axes are logarithmic; values must then be above zero.
    """
    numbers = [number for one in series for number in one.values.values()]
    ticks = _powers(numbers) if powers else _steps(max(numbers))
    left = 14 + CHARACTER * max(len(say(tick)) for tick in ticks)
    right = WIDTH - 12 - CHARACTER * max(len(name) for one in series for name in one.names)
    x_of, x_ticks = bands([size for one in series for size in one.values], left, right)
    height = _scale(ticks, powers=powers)
    labels = iter(apart([height(one.values[one.last]) for one in series for _ in one.names], _LABEL_GAP))
    ends = [f"{one.name} {say(one.values[one.last])} at W = {one.last:,}" for one in series]
    return Chart(
        title=title,
        subtitle=subtitle,
        text=f"{title}, {subtitle}, against W. {'; '.join(ends)}.",
        x_name="W",
        left=at(left),
        right=at(right),
        x_ticks=x_ticks,
        y_ticks=tuple(Tick(at(height(tick)), say(tick)) for tick in ticks),
        marks=tuple(_marks(series, x_of, height, say)),
        lines=tuple(
            Line(
                points=tuple((at(x_of(size)), at(height(number))) for size, number in one.values.items()),
                dash=_FAINT if one.faint else index,
                labels=tuple(Tick(next(labels), name) for name in one.names),
            )
            for index, one in enumerate(series)
        ),
    )


def _marks(
    series: Sequence[Series], x_of: Callable[[int], float], height: Callable[[float], float], say: Say
) -> Iterator[Mark]:
    for index, one in enumerate(series):
        for size, number in one.values.items() if not one.faint else ():
            yield Mark(at(x_of(size)), at(height(number)), index % 4, "", f"{one.name}, W = {size:,}: {say(number)}")


def _scale(ticks: Sequence[float], *, powers: bool) -> Callable[[float], float]:
    """Place the first tick at the bottom of the plot and the last at its top."""

    def where(number: float) -> float:
        return math.log10(max(number, _LEAST)) if powers else number

    low, high = where(ticks[0]), where(ticks[-1])
    return lambda number: BOTTOM - (where(number) - low) / (high - low) * (BOTTOM - TOP)


def _steps(largest: float) -> list[float]:
    """Return 0 and round steps up to at least the largest value."""
    if largest < _LEAST:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(largest / _TICKS))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if unit * factor * _TICKS >= largest)
    return [step * index for index in range(max(1, math.ceil(largest / step)) + 1)]


def _powers(numbers: Sequence[float]) -> list[float]:
    """Return a few powers of ten from at most the smallest value to at least the largest."""
    low, high = math.floor(math.log10(max(min(numbers), _LEAST))), math.ceil(math.log10(max(*numbers, _LEAST)))
    every = max(1, math.ceil((high - low) / _TICKS))
    return [10.0**exponent for exponent in range(low, max(high, low + 1) + every, every)]
