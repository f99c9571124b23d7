"""One step of a form as spans of time: what each rank of one host does when. The other hosts do the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from siglip_verify.errors import UsageError
from siglip_verify.plan import PHASES, Phase
from siglip_verify.simulate import engine
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.predict import calls_of, planned_step, program_of
from siglip_verify.simulate.result import Form, Setup, Simulation
from siglip_verify.simulate.rounds import Program

MAX_TIMELINE_WORLD_SIZE = 512
_LOOKED_AT = 64


class TimelineSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank does from when to when.

    Attributes:
        rank: The rank.
        kind: Computing, or communication: from posting a hop, or calling a collective, to its end.
        phase: The phase.
        round: Which hop or call of the phase it belongs to, or comes before or after.
        begin_s, end_s: From the begin of the step.
    """

    rank: int
    kind: Literal["communication", "compute"]
    phase: Phase
    round: int
    begin_s: float
    end_s: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a form at one world size; backward begins when the last rank is through forward."""

    form: Form
    world_size: int
    spans: tuple[TimelineSpan, ...]


def timelines(simulation: Simulation) -> tuple[Timeline, ...]:
    """Return a step of every form, at the largest simulated W of up to 64, or at the smallest if all are larger.

    Raises:
        UsageError: That one is larger than anyone would look at.
    """
    sizes = simulation.world_sizes
    world_size = max((size for size in sizes if size <= _LOOKED_AT), default=sizes[0])
    return tuple(timeline(simulation.setup, form, world_size) for form in simulation.forms)


def timeline(setup: Setup, form: Form, world_size: int) -> Timeline:
    """Return what the ranks of one host do in a step.

    Raises:
        UsageError: The world is larger than anyone would look at, or the cluster cannot have it.
    """
    if world_size > MAX_TIMELINE_WORLD_SIZE:
        raise UsageError(
            f"a timeline has up to {MAX_TIMELINE_WORLD_SIZE} ranks; got W = {world_size}: simulate a smaller W too"
        )
    planned = planned_step(setup, form, world_size)
    fabric, calls = Fabric(setup.cluster, world_size), calls_of(setup, planned)
    spans: list[TimelineSpan] = []
    for phase in PHASES:
        program = program_of(setup, form, planned, phase, calls)
        begin_s = max((span.end_s for span in spans), default=0.0)
        phase_spans = _in_step(program, fabric) if calls else _by_events(program, fabric)
        spans += [_in_phase(phase, begin_s, span) for span in phase_spans]
    return Timeline(form=form, world_size=world_size, spans=tuple(spans))


def _in_phase(phase: Phase, begin_s: float, span: engine.Span) -> TimelineSpan:
    return TimelineSpan(
        rank=span.rank,
        kind=span.kind,
        phase=phase,
        round=span.round,
        begin_s=begin_s + span.begin_s,
        end_s=begin_s + span.end_s,
    )


def _by_events(program: Program, fabric: Fabric) -> list[engine.Span]:
    trace = engine.Trace()
    engine.seconds(fabric, program, trace=trace)
    return trace.spans


def _in_step(program: Program, fabric: Fabric) -> Iterator[engine.Span]:
    """Lay out rounds of whole collectives, in which all ranks do the same."""
    number, now_s = 0, 0.0
    for each in (each for loop in program for _ in range(loop.times) for each in loop.rounds):
        ready_s = now_s + max(each.fixed_s, each.during_s)
        for rank in range(fabric.num_ranks):
            for kind, begin_s, end_s in _parts(now_s, ready_s, each.fixed_s, each.during_s, each.after_s):
                if end_s > begin_s:
                    yield engine.Span(rank, kind, number, begin_s, end_s)
        number, now_s = number + 1, ready_s + each.after_s


def _parts(
    now_s: float, ready_s: float, fixed_s: float, during_s: float, after_s: float
) -> Iterator[tuple[Literal["communication", "compute"], float, float]]:
    yield "communication", now_s, now_s + fixed_s
    yield "compute", now_s, now_s + during_s
    yield "compute", ready_s, ready_s + after_s
