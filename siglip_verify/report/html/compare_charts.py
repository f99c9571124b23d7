"""How the exchanges compare against W: calls, bytes, memory and time, as counted and measured here, and as modelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from siglip_verify.report import words
from siglip_verify.report.html.chart import Chart
from siglip_verify.report.html.line_chart import Say, Series, line_chart, series_of
from siglip_verify.result import MessageRow, Modelled, ModelledStep, StepCost

_LOWER_BOUND = "lower bound"
Step = TypeVar("Step", MessageRow, StepCost, ModelledStep)


def counted_charts(rows: Sequence[MessageRow], costs: Sequence[StepCost]) -> Iterator[Chart]:
    """Draw calls, wire bytes, memory and time of steps of one size; nothing where there is but one W."""
    yield from _chart("Calls", "per rank and step, counted", _by_form(rows, _calls), _count)
    bound = {row.world_size: float(row.lower_bound_bytes) for row in sorted(rows, key=lambda row: row.world_size)}
    wire = _by_form(rows, lambda row: row.wire_bytes)
    yield from _chart("Wire", "bytes per rank and step, measured", wire, words.num_bytes, bound)
    yield from _chart(
        "Memory", "kept per rank, counted", _by_form(costs, lambda cost: cost.kept_bytes), words.num_bytes
    )
    times = _by_form(costs, lambda cost: cost.median_s if cost.seconds else None)
    yield from _chart("Time", "per step, on loopback, measured", times, words.short_time)


def modelled_charts(of: Modelled) -> Iterator[Chart]:
    """Draw the same for a cluster, at powers of ten."""
    shown: list[tuple[str, str, Callable[[ModelledStep], float], Say]] = [
        ("Calls", "per rank and step, modelled", lambda step: step.calls, _count),
        ("Sent", "bytes per rank and step, modelled", lambda step: step.sent_bytes, words.num_bytes),
        ("Memory", "held per rank at most, modelled", lambda step: step.held_bytes, words.num_bytes),
        ("Time", "per step, modelled", lambda step: step.step_s, words.short_time),
    ]
    for title, subtitle, value, say in shown:
        values = _by_form(of.steps, value)
        positive = {form: {size: n for size, n in by_size.items() if n > 0} for form, by_size in values.items()}
        yield from _chart(title, subtitle, positive, say, powers=True)


def _chart(
    title: str,
    subtitle: str,
    values: Mapping[str, Mapping[int, float]],
    say: Say,
    bound: Mapping[int, float] | None = None,
    *,
    powers: bool = False,
) -> Iterator[Chart]:
    if len({size for by_size in values.values() for size in by_size}) > 1:
        series = series_of(values)
        if bound:
            series.append(Series((_LOWER_BOUND,), dict(bound), faint=True))
        yield line_chart(title, subtitle, series, say, powers=powers)


def _by_form(steps: Iterable[Step], value: Callable[[Step], float | None]) -> dict[str, dict[int, float]]:
    """Collect one value by exchange or form, and W, ascending; what is no number is not drawn."""
    found: dict[str, dict[int, float]] = {}
    for step in sorted(steps, key=lambda step: step.world_size):
        number = value(step)
        if number is not None and math.isfinite(number):
            found.setdefault(_form(step), {})[step.world_size] = number
    return found


def _form(step: MessageRow | StepCost | ModelledStep) -> str:
    return words.one_line(step.form) if isinstance(step, ModelledStep) else step.exchange


def _calls(row: MessageRow) -> int | None:
    if row.counted_messages is None and row.counted_collectives is None:
        return None
    return (row.counted_messages or 0) + (row.counted_collectives or 0)


def _count(value: float) -> str:
    return f"{value:,.0f}"
