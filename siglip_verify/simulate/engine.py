"""Events: ranks that go through their rounds, and messages that share links.

A message leaves when both its ends have begun its round (a rendezvous), goes at its fair share of its links, and a rank
ends a round when all that it sends and receives has arrived and it has computed. Nothing else costs time, so the result
is exact to rounding.

A ring repeats itself: when rank 0 begins a round and everything stands, relative to it, as it stood at an earlier such
moment of the same loop, what followed then will follow again. The engine then skips as many repetitions as are left, so
its cost hardly grows with W. It is tested that skipping changes nothing.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from siglip_verify.simulate.fabric import Fabric, Flow
from siglip_verify.simulate.rounds import Program, Round
from siglip_verify.simulate.sharing import INSTANT_S, Key, Links

_MOMENTS_KEPT = 8
_ROUNDING = 1e-13  # of the time between two moments


class Span(NamedTuple):
    """What one rank did from when to when, in seconds from the start."""

    rank: int
    kind: Literal["communication", "compute"]
    round: int
    begin_s: float
    end_s: float


class Sent(NamedTuple):
    """One message that arrived: who sent how much to whom, in which round."""

    src: int
    dst: int
    round: int
    num_bytes: float
    crosses: bool


class Trace:
    """What happened, for who wants to see it; nothing is skipped while it is written."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.sent: list[Sent] = []


def seconds(fabric: Fabric, program: Program, *, skip: bool = True, trace: Trace | None = None) -> float:
    """Return when the last rank is through a program that all begin at 0.

    Args:
        fabric: The links.
        program: The rounds; the time of whole collectives is none of the engine's business.
        skip: Skip what repeats itself.
        trace: Where to write what happens; skips nothing then.

    Raises:
        RuntimeError: Some rank waits for ever.
    """
    return _Run(fabric, program, skip and trace is None, trace).finished_s()


@dataclass(frozen=True, slots=True)
class _Stage:
    """A round with its flows, and which of them each rank sends or receives."""

    round: Round
    flows: tuple[Flow, ...]
    ends: dict[int, list[int]]


class _Loop(NamedTuple):
    """Rounds first .. end - 1 of the run: some stages over and over."""

    first: int
    end: int
    stages: tuple[_Stage, ...]


class _Moment(NamedTuple):
    """How everything stands relative to rank 0's round and to now: what can be counted, and what is measured."""

    round: int
    now_s: float
    counted: tuple[object, ...]
    measured: tuple[float, ...]


_BEGIN, _DEPART = range(2)


class _Run:
    """One run of a program. Times count from `_base_s`, which moves on, so that they keep their precision."""

    def __init__(self, fabric: Fabric, program: Program, skip: bool, trace: Trace | None) -> None:
        self._skip, self._trace = skip, trace
        self._loops = _numbered(fabric, program)
        self._firsts = [loop.first for loop in self._loops]
        self._num_rounds = self._loops[-1].end if self._loops else 0
        self._links = Links(fabric)
        self._base_s = self._now = 0.0
        self._round = [-1] * fabric.num_ranks
        self._open = [0] * fabric.num_ranks  # ends of messages that the rank's round still waits for
        self._begun = [0.0] * fabric.num_ranks
        self._ended_s: list[float] = []
        self._events: list[tuple[float, int, int, int]] = [(0.0, _BEGIN, rank, 0) for rank in range(fabric.num_ranks)]
        self._waiting: set[Key] = set()  # messages of which one end is there
        self._moments: deque[_Moment] = deque(maxlen=_MOMENTS_KEPT)

    def finished_s(self) -> float:
        """Go from event to event until nothing is left."""
        while self._events or self._links.under_way:
            self._advance()
        if len(self._ended_s) < len(self._round):
            raise RuntimeError(f"ranks wait for ever: {len(self._ended_s)} of {len(self._round)} came to the end")
        return max(self._ended_s)

    def _advance(self) -> None:
        next_event_s = self._events[0][0] - self._now if self._events else math.inf
        step_s = max(0.0, min(next_event_s, self._links.next_end_s()))
        self._now += step_s
        for key in self._links.move_on(step_s):
            self._arrive(key)
        rank_0_begins = False
        while self._events and self._events[0][0] <= self._now + INSTANT_S:
            _, kind, which, place = heapq.heappop(self._events)
            if kind == _DEPART:
                self._links.add((which, place), self._stage(which).flows[place])
            else:
                self._begin(which)
                rank_0_begins |= which == 0
        if rank_0_begins and self._skip:
            self._skip_ahead()

    # -------------------------------------------------------------- rounds
    def _begin(self, rank: int) -> None:
        number = self._round[rank] = self._round[rank] + 1
        if number == self._num_rounds:
            self._ended_s.append(self._base_s + self._now)
            return
        places = self._stage(number).ends.get(rank, [])
        self._begun[rank], self._open[rank] = self._now, len(places)
        for place in places:
            self._meet((number, place))
        if not places:
            self._end(rank)

    def _meet(self, key: Key) -> None:
        """Let a message leave if its other end is there already."""
        if key not in self._waiting:
            self._waiting.add(key)
            return
        self._waiting.remove(key)
        stage = self._stage(key[0])
        departs = self._now + stage.round.call_s + stage.flows[key[1]].latency_s
        heapq.heappush(self._events, (departs, _DEPART, *key))

    def _arrive(self, key: Key) -> None:
        flow = self._stage(key[0]).flows[key[1]]
        if self._trace:
            self._trace.sent.append(Sent(flow.src, flow.dst, key[0], flow.num_bytes, flow.crosses))
        for rank in (flow.src, flow.dst):
            self._open[rank] -= 1
            if self._open[rank] == 0:
                self._end(rank)

    def _end(self, rank: int) -> None:
        """Begin the next round when the computing of this one is done."""
        each = self._stage(self._round[rank]).round
        computed = self._begun[rank] + each.during_s
        ready = max(self._now, computed)
        heapq.heappush(self._events, (ready + each.after_s, _BEGIN, rank, 0))
        if self._trace:
            self._write(self._trace, rank, "communication", self._begun[rank], self._now)
            self._write(self._trace, rank, "compute", self._begun[rank], computed)
            self._write(self._trace, rank, "compute", ready, ready + each.after_s)

    def _write(
        self, trace: Trace, rank: int, kind: Literal["communication", "compute"], begin: float, end: float
    ) -> None:
        if end > begin:
            trace.spans.append(Span(rank, kind, self._round[rank], self._base_s + begin, self._base_s + end))

    def _loop(self, number: int) -> _Loop:
        return self._loops[bisect_right(self._firsts, number) - 1]

    def _stage(self, number: int) -> _Stage:
        loop = self._loop(number)
        return loop.stages[(number - loop.first) % len(loop.stages)]

    # -------------------------------------------------------------- skipping
    def _skip_ahead(self) -> None:
        """Skip as many repetitions as are left, if everything stands as it stood before in this loop."""
        number, last = self._round[0], max(self._round)
        loop = self._loop(number)
        if min(self._round) < loop.first or last >= loop.end or (number - loop.first) % len(loop.stages):
            return
        self._count_from_now()
        moment = self._moment(number)
        for earlier in self._moments:
            if earlier.round >= loop.first and _same(earlier, moment):
                times = (loop.end - 1 - last) // (number - earlier.round)
                self._base_s += times * (moment.now_s - earlier.now_s)
                self._renumber(times * (number - earlier.round))
                self._moments.clear()
                return
        self._moments.append(moment)

    def _moment(self, number: int) -> _Moment:
        events = sorted((kind, which - number * kind, place, at) for at, kind, which, place in self._events)
        flows = self._links.state(number)
        counted = (
            tuple(each - number for each in self._round),
            tuple(self._open),
            tuple(event[:3] for event in events),
            tuple(key for key, _ in flows),
            frozenset((each - number, place) for each, place in self._waiting),
        )
        begun = (at if left else 0.0 for at, left in zip(self._begun, self._open, strict=True))
        measured = (*begun, *(event[3] for event in events), *(left for _, left in flows))
        return _Moment(number, self._base_s, counted, measured)

    def _count_from_now(self) -> None:
        """Make now the time from which times count."""
        self._base_s += self._now
        self._events = [(at - self._now, kind, which, place) for at, kind, which, place in self._events]
        self._begun = [at - self._now for at in self._begun]
        heapq.heapify(self._events)
        self._now = 0.0

    def _renumber(self, rounds: int) -> None:
        """Take everything for what it will be so many rounds later."""
        self._round = [number + rounds for number in self._round]
        self._events = [(at, kind, which + rounds * kind, place) for at, kind, which, place in self._events]
        self._waiting = {(number + rounds, place) for number, place in self._waiting}
        self._links.renumber(rounds)


def _same(one: _Moment, other: _Moment) -> bool:
    """Whether two moments are the same but for rounding."""
    near = _ROUNDING * (other.now_s - one.now_s)
    return one.counted == other.counted and all(
        abs(a - b) <= near for a, b in zip(one.measured, other.measured, strict=True)
    )


def _numbered(fabric: Fabric, program: Program) -> list[_Loop]:
    """Number the rounds of a program, and find the flows of each."""
    stages: dict[Round, _Stage] = {}
    for each in (each for loop in program for each in loop.rounds):
        assert not each.fixed_s, "the time of a whole collective is known: add it up (lockstep)"
        if each not in stages:
            stages[each] = _staged(each, fabric.flows(each.transfers))
    lengths = [len(loop.rounds) * loop.times for loop in program]
    return [
        _Loop(end - length, end, tuple(stages[each] for each in loop.rounds))
        for loop, length, end in zip(program, lengths, accumulate(lengths), strict=True)
        if length
    ]


def _staged(each: Round, flows: Sequence[Flow]) -> _Stage:
    ends: dict[int, list[int]] = defaultdict(list)
    for place, flow in enumerate(flows):
        ends[flow.src].append(place)
        ends[flow.dst].append(place)
    return _Stage(each, tuple(flows), dict(ends))
