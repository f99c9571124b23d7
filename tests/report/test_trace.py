"""One step's messages as a trace for Perfetto.

Oracle: the Chrome trace format, as rules written here (Perfetto's own reader is a program that its Python package
fetches from the network, so that it cannot be part of a test), and the records. Sees: an event that a reader would
refuse, slices on one track that overlap without nesting, an arrow without an end or that begins or ends in no slice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from typing import Any

from hypothesis import given

from siglip_verify.report import trace
from siglip_verify.result import StepMessages

from . import steps

TraceEvent = dict[str, Any]
REQUIRED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "s": {"name", "cat", "id", "pid", "tid", "ts"},
    "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
}


def written(step: StepMessages | None) -> list[TraceEvent]:
    return json.loads(trace.dump(step))["traceEvents"]


def of(phase: str, events: list[TraceEvent]) -> list[TraceEvent]:
    return [event for event in events if event["ph"] == phase]


def within(slice_: TraceEvent, event: TraceEvent) -> bool:
    same_track = (slice_["pid"], slice_["tid"]) == (event["pid"], event["tid"])
    return same_track and slice_["ts"] <= event["ts"] <= slice_["ts"] + slice_["dur"]


@given(step=steps.steps())
def test_every_event_is_of_the_format(step: StepMessages) -> None:
    for event in written(step):
        assert set(event) == REQUIRED[event["ph"]] | {"ph"}
        assert all(isinstance(event[name], int) and event[name] > 0 for name in ("pid", "tid", "id") if name in event)
        assert all(isinstance(event[name], int) and event[name] >= 0 for name in ("ts", "dur") if name in event)
        assert event["ph"] != "M" or event["name"] in (
            "process_name", "process_sort_index", "thread_name", "thread_sort_index",
        )  # fmt: skip


@given(step=steps.steps())
def test_slices_of_one_track_nest_or_lie_apart(step: StepMessages) -> None:
    tracks: dict[int, list[TraceEvent]] = defaultdict(list)
    for event in of("X", written(step)):
        tracks[event["tid"]].append(event)
    for slices in tracks.values():
        assert len({event["pid"] for event in slices}) == 1
        for one, other in combinations(slices, 2):  # in the order of the file, in which an outer slice comes first
            starts, ends = (one["ts"], other["ts"]), (one["ts"] + one["dur"], other["ts"] + other["dur"])
            apart = ends[0] <= starts[1] or ends[1] <= starts[0]
            assert apart or (starts[0] <= starts[1] and ends[1] <= ends[0]), (one, other)


@given(step=steps.steps())
def test_every_operation_is_drawn_and_every_hop_lies_in_its_phase(step: StepMessages) -> None:
    events = of("X", written(step))
    kinds = {category: [e for e in events if e["cat"] == category] for category in ("phase", "hop", "operation")}
    assert len(kinds["operation"]) == len(step.events)
    assert {(e["pid"] - 1, e["args"]["sequence"]) for e in kinds["operation"]} == {
        (event.rank, event.sequence) for event in step.events
    }
    hops = {(event.rank, event.phase, event.hop) for event in step.events}
    assert {(e["pid"] - 1, *e["name"].split(" hop ")) for e in kinds["hop"]} == {(r, p, str(h)) for r, p, h in hops}
    for hop in kinds["hop"]:
        (phase,) = [e for e in kinds["phase"] if e["pid"] == hop["pid"] and hop["name"].startswith(e["name"])]
        assert phase["ts"] <= hop["ts"]
        assert hop["ts"] + hop["dur"] <= phase["ts"] + phase["dur"]


@given(step=steps.steps())
def test_every_arrow_has_its_two_ends_in_the_slices_of_a_matched_message(step: StepMessages) -> None:
    events = written(step)
    operations = [e for e in of("X", events) if e["cat"] == "operation"]
    starts, ends = of("s", events), of("f", events)
    assert [e["id"] for e in starts] == sorted({e["id"] for e in ends})
    assert len(starts) == len(ends) == len(step.matches)
    assert all(event["bp"] == "e" for event in ends)
    drawn = set()
    for start, end in zip(starts, sorted(ends, key=lambda e: e["id"]), strict=True):
        assert (start["name"], start["cat"], start["id"]) == (end["name"], end["cat"], end["id"])
        send = next(
            s for s in operations if within(s, start) and s["name"].startswith("send") and s["ts"] == start["ts"]
        )
        receive = next(s for s in operations if within(s, end) and s["name"].startswith("recv"))
        drawn.add((send["pid"] - 1, receive["pid"] - 1))
    assert drawn == {(match.src_rank, match.dst_rank) for match in step.matches}


def test_each_rank_is_a_process_with_its_name() -> None:
    names = [e for e in of("M", written(steps.step("bidir", 4))) if e["name"] == "process_name"]
    assert [(e["pid"], e["args"]["name"]) for e in names] == [(rank + 1, f"rank {rank}") for rank in range(4)]


def test_the_first_operation_of_a_hop_lies_in_the_hop_and_the_others_beside_it() -> None:
    events = [e for e in of("X", written(steps.step("bidir", 3))) if e["pid"] == 1 and e["cat"] == "operation"]
    first_hop = sorted(e for e in ((e["args"]["sequence"], e["tid"]) for e in events) if e[0] < 4)
    assert first_hop == [(0, 1000), (1, 1001), (2, 1002), (3, 1003)]


def test_an_operation_that_never_returned_lasts_to_the_end_of_the_step_and_says_so() -> None:
    slices = [e for e in of("X", written(steps.mismatching().step)) if e["cat"] == "operation"]
    end = max(e["ts"] + e["dur"] for e in slices)
    stuck = [e for e in slices if not e["args"]["returned"]]
    assert {e["pid"] for e in stuck} == {1}
    assert {e["ts"] + e["dur"] for e in stuck} == {end}


def test_a_trace_of_no_step_is_a_trace() -> None:
    assert written(None) == []
