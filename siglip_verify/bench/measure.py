"""How two things are compared: measured in turn, so that what else the machine does befalls both; medians; a ratio.

Here: the records, and making them. Not here: what is measured (one module a comparison), how it looks (`report.bench`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import msgspec

SCHEMA_VERSION = 1
Unit = Literal["s", "B"]
T = TypeVar("T")


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things compared.

    Attributes:
        name: What it is.
        unit: Of its values: seconds, or bytes.
        values: One for each turn, in order, measured.
        median: Of the values.
        note: What else is to be said of it, such as a count.
    """

    name: str
    unit: Unit
    values: tuple[float, ...]
    median: float
    note: str = ""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What the ratio must be."""

    bound: Literal["at most", "at least"]
    ratio: float

    def is_met_by(self, ratio: float) -> bool:
        """Tell whether a ratio is on the right side; one that is not a number never is."""
        return ratio <= self.ratio if self.bound == "at most" else ratio >= self.ratio


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Some things that do the same, measured in turn.

    Attributes:
        name: Of the benchmark, and of this comparison in it.
        what: What was measured, in one sentence.
        each: What one value is for, such as `case` or `step`.
        contestants: The things compared.
        ratio_of: Names of the two contestants of the ratio: the first's median over the second's.
        ratio: That ratio, measured.
        requirement: What it must be; None where nothing is required.
        is_met: Whether it is.
    """

    name: str
    what: str
    each: str
    contestants: tuple[Contestant, ...]
    ratio_of: tuple[str, str]
    ratio: float
    requirement: Requirement | None
    is_met: bool | None


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record.
        started_at: UTC, ISO 8601.
        elapsed_s: Wall-clock seconds of the run, measured.
        turns: How often each contestant was measured at most.
        load: Runnable processes on the machine when the run began and when it ended, averaged over a minute, measured;
            None where the system does not say. Beyond the number of processors, timings suffer and ratios less.
        environment: Versions and machine, in words.
        comparisons: In the order in which they were made.
    """

    schema_version: int = SCHEMA_VERSION
    started_at: str
    elapsed_s: float
    turns: int
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
    measured: Mapping[str, list[float]],
    *,
    each: str,
    ratio_of: tuple[str, str],
    unit: Unit = "s",
    requirement: Requirement | None = None,
    notes: Mapping[str, str] | None = None,
) -> Comparison:
    """Make a comparison of values that were measured in turn.

    Args:
        name: Of the comparison.
        what: What was measured, in one sentence.
        measured: The values of each contestant.
        each: What one value is for.
        ratio_of: Which median is divided by which.
        unit: Of the values.
        requirement: What the ratio must be.
        notes: What else is to be said of a contestant.
    """
    medians = {contestant: statistics.median(values) for contestant, values in measured.items()}
    ratio = medians[ratio_of[0]] / medians[ratio_of[1]]
    return Comparison(
        name=name,
        what=what,
        each=each,
        contestants=tuple(
            Contestant(
                name=contestant,
                unit=unit,
                values=tuple(values),
                median=medians[contestant],
                note=(notes or {}).get(contestant, ""),
            )
            for contestant, values in measured.items()
        ),
        ratio_of=ratio_of,
        ratio=ratio,
        requirement=requirement,
        is_met=None if requirement is None else requirement.is_met_by(ratio),
    )


def in_turn(contestants: dict[str, Callable[[], T]], turns: int) -> dict[str, list[T]]:
    """Measure each contestant once a turn, every second turn the other way round, so that none always follows another.

    Args:
        contestants: Each measures once and returns the value.
        turns: How often each is measured.
    """
    values: dict[str, list[T]] = {name: [] for name in contestants}
    for turn in range(turns):
        for name in contestants if turn % 2 == 0 else reversed(contestants):
            values[name].append(contestants[name]())
    return values
