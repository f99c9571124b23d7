"""How things are compared: measured in turn, so that what else the machine does befalls all; medians; ratios of pairs.

Here: the records, and making them. Not here: what is measured (one module a benchmark), how it looks (`report.bench`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

SCHEMA_VERSION = 3
Unit = Literal["s", "B"]
Pair = tuple[str, str]
T = TypeVar("T")


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a step: ranks, rows on each, numbers a row."""

    world_size: int
    batch: int
    dim: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank sends in one step, the most over ranks.

    Attributes:
        messages, collectives, payload_bytes: Counted by the recorder.
        wire_bytes: Measured by the kernel; None where it does not say.
    """

    messages: int
    collectives: int
    payload_bytes: int
    wire_bytes: int | None


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things compared.

    Attributes:
        name: What it is.
        unit: Of its values: seconds, or bytes.
        turns: How often it was measured.
        values: One for each turn, in order, measured; none in a digest.
        median: Of the values.
        note: What else is to be said of it, such as a count.
        traffic: What it sends; None where that is not looked at.
        limit: What the median must not exceed; None where nothing is required.
    """

    name: str
    unit: Unit
    turns: int
    values: tuple[float, ...]
    median: float
    note: str = ""
    traffic: Traffic | None = None
    limit: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the limit is kept."""
        return None if self.limit is None else self.median <= self.limit


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a ratio must be.

    A median within its own noise of what is required would pass for ever on a machine that is noisy enough. With a
    margin the noise counts against: the interval must reach the right side, and it must end before the ratio that a
    contestant worse by the margin has. The true ratio of such a one is in the interval with a probability of 95 %, so
    that it is let through in one run of forty at most, however noisy they are.

    Attributes:
        bound: On which side.
        ratio: Of what.
        margin: How much worse is found out, such as 0.1; None where the median alone decides.
    """

    bound: Literal["at most", "at least"]
    ratio: float
    margin: float | None = None

    @property
    def found_out(self) -> float | None:
        """The ratio that the interval must not reach."""
        if self.margin is None:
            return None
        return self.ratio * (1 + self.margin) if self.bound == "at most" else self.ratio / (1 + self.margin)

    def is_met_by(self, value: float, interval: tuple[float, float]) -> bool:
        """Tell whether a ratio is on the right side; one that is not a number never is."""
        low, high = interval
        if self.bound == "at most":
            return value <= self.ratio if self.found_out is None else low <= self.ratio and high < self.found_out
        return value >= self.ratio if self.found_out is None else high >= self.ratio and low > self.found_out


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant over another, turn by turn: what slows a turn down slows down both.

    Attributes:
        of: Names of the contestants: the first's values over the second's.
        value: The median over the turns, measured.
        interval: Where the true median lies with a probability of 95 %, see `median_interval`: this run's own noise.
        requirement: What it must be; None where nothing is required.
        is_met: Whether it is.
    """

    of: Pair
    value: float
    interval: tuple[float, float]
    requirement: Requirement | None
    is_met: bool | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Some things that do the same, measured in turn.

    Attributes:
        name: Of the benchmark, and of this comparison in it.
        what: What was measured, in one sentence.
        each: What one value is for, such as `case` or `step`.
        contestants: The things compared.
        ratios: Of pairs of them.
        setup: The size of the step, where it is one.
    """

    name: str
    what: str
    each: str
    contestants: tuple[Contestant, ...]
    ratios: tuple[Ratio, ...]
    setup: Setup | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether all is met that is required; None where nothing is."""
        judged = [one.is_met for one in (*self.contestants, *self.ratios) if one.is_met is not None]
        return all(judged) if judged else None


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record.
        started_at: UTC, ISO 8601.
        elapsed_s: Wall-clock seconds of the run, measured.
        load: Runnable processes on the machine when the run began and when it ended, averaged over a minute, measured;
            None where the system does not say. Beyond the number of processors, timings suffer and ratios less.
        environment: Versions and machine, in words.
        comparisons: In the order in which they were made.
    """

    schema_version: int = SCHEMA_VERSION
    started_at: str
    elapsed_s: float
    load: tuple[float, float] | None
    environment: dict[str, str]
    comparisons: tuple[Comparison, ...]

    @property
    def passes(self) -> bool:
        """Whether every requirement is met."""
        return all(comparison.is_met is not False for comparison in self.comparisons)


def compare(
    name: str,
    what: str,
    measured: Mapping[str, Sequence[float]],
    *,
    each: str,
    ratios: Mapping[Pair, Requirement | None],
    unit: Unit = "s",
    notes: Mapping[str, str] | None = None,
    traffic: Mapping[str, Traffic] | None = None,
    limits: Mapping[str, float] | None = None,
    setup: Setup | None = None,
) -> Comparison:
    """Make a comparison of values that were measured in turn.

    Args:
        name: Of the comparison.
        what: What was measured, in one sentence.
        measured: The values of each contestant, one a turn.
        each: What one value is for.
        ratios: Which contestant is held against which, and what their ratio must be.
        unit: Of the values.
        notes: What else is to be said of a contestant.
        traffic: What it sends.
        limits: What its median must not exceed.
        setup: The size of the step.
    """
    contestants = (
        Contestant(
            name=contestant,
            unit=unit,
            turns=len(values),
            values=tuple(values),
            median=statistics.median(values),
            note=(notes or {}).get(contestant, ""),
            traffic=(traffic or {}).get(contestant),
            limit=(limits or {}).get(contestant),
        )
        for contestant, values in measured.items()
    )
    return Comparison(
        name=name,
        what=what,
        each=each,
        contestants=tuple(contestants),
        ratios=tuple(ratio(measured, pair, requirement) for pair, requirement in ratios.items()),
        setup=setup,
    )


def ratio(measured: Mapping[str, Sequence[float]], pair: Pair, requirement: Requirement | None = None) -> Ratio:
    """Hold one contestant against another, turn by turn."""
    turns = [first / second for first, second in zip(measured[pair[0]], measured[pair[1]], strict=True)]
    value, interval = statistics.median(turns), median_interval(turns)
    is_met = None if requirement is None else requirement.is_met_by(value, interval)
    return Ratio(of=pair, value=value, interval=interval, requirement=requirement, is_met=is_met)


def median_interval(values: Sequence[float], error: float = 0.05) -> tuple[float, float]:
    """Return two of the values between which the true median lies but for this probability, whatever their law.

    A value is below the median as often as a coin shows heads: the interval leaves out as many values at each end as
    an unlucky coin would. With five values or fewer it is all of them, and says less.
    """
    order, num = sorted(values), len(values)
    tail, left_out = 0.5**num, 0
    while 2 * tail <= error:
        left_out += 1
        tail += math.comb(num, left_out) * 0.5**num
    left_out = max(0, left_out - 1)
    return order[left_out], order[-1 - left_out]


def in_turn(contestants: dict[str, Callable[[], T]], turns: int) -> dict[str, list[T]]:
    """Measure each contestant once a turn, every second turn the other way round, and every two turns another begins.

    So none always follows another, or always comes first.

    Args:
        contestants: Each measures once and returns the value.
        turns: How often each is measured.
    """
    values: dict[str, list[T]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(turns):
        first = turn // 2 % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 == 0 else reversed(order):
            values[name].append(contestants[name]())
    return values
