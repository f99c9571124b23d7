"""How long a step of each form takes, and what it sends: ours against open_clip's in the same ranks, in turn.

A value is the slowest rank's time, from a barrier to the end of its backward. open_clip's bidir runs twice a turn: the
ratio of the two is the noise of the run. `products` is the floor of the computation (`forms.Products`); the floor of
the bytes is in what is said of the comparison. Messages are counted, and the wire read, in one step of each, untimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch.distributed as dist

from siglip_verify.bench.forms import Form, Products, Step, open_clip_forms, our_forms
from siglip_verify.bench.measure import Comparison, Pair, Requirement, Setup, Traffic, compare, in_turn, ratio
from siglip_verify.case import EXCHANGES, Case
from siglip_verify.checks.totals import rank_totals
from siglip_verify.observe import Recorder, WireReading, attribute
from siglip_verify.plan import lower_bound_bytes
from siglip_verify.result import StepMessages
from siglip_verify.run.logs import read_logs
from siglip_verify.run.step import wire_meter
from siglip_verify.world import Worlds, context

PRODUCTS, REFERENCE, AGAIN = "products", "open_clip bidir", "open_clip bidir again"
WARM_UP_TURNS = 2
_TIMEOUT_S = 7200.0
_ITEM_BYTES = 4

NO_SLOWER = Requirement(bound="at most", ratio=1.0, margin=0.1)
"""Of autograd against open_clip's same exchange: one that is slower by a tenth is found out."""

FASTER_CONSTANT_AT_MOST = {
    **{(world_size, 8, 64): 0.7 for world_size in (4, 8, 16)},
    **{(world_size, 1024, 512): 1.0 for world_size in (2, 4, 8)},
}
"""By W, b and d: what the faster constant form may take of open_clip's bidir."""


def steps(setup: Setup, turns: int, chosen: Callable[[Form], bool] = lambda _: True) -> Iterator[Comparison]:
    """Measure every form at one size.

    Args:
        setup: The size.
        turns: Steps of each form.
        chosen: Which forms, if not all; an autograd form of ours and open_clip's same exchange, or neither.
    """
    forms = neighbours_first([form for form in (*open_clip_forms(), *our_forms()) if chosen(form)])
    with Worlds(timeout_s=_TIMEOUT_S) as worlds:
        measured = slowest(worlds.run(setup.world_size, times_in_turn, forms, setup, turns))
        traffic = {form.name: _traffic(worlds, form, setup) for form in forms}
    bound_bytes = 2 * lower_bound_bytes(setup.world_size, setup.batch, setup.dim, _ITEM_BYTES)
    yield compare(
        f"steps/{setup.batch}x{setup.dim}/W{setup.world_size}",
        f"one step, W = {setup.world_size}, b = {setup.batch}, d = {setup.dim}, float32; at least {bound_bytes:,} B "
        "must leave a rank",
        measured,
        each="step",
        ratios=_ratios(measured, [form for form in forms if not form.target], setup),
        notes={PRODUCTS: f"3 W = {3 * setup.world_size} matrix products, nothing sent", AGAIN: "shows the noise"},
        traffic=traffic,
        setup=setup,
    )


def _ratios(measured: dict[str, list[float]], ours: Sequence[Form], setup: Setup) -> dict[Pair, Requirement | None]:
    """Hold autograd forms against open_clip's same exchange and all others of ours against its bidir."""
    ratios: dict[Pair, Requirement | None] = {(AGAIN, REFERENCE): None}
    for form in ours:
        same = form.memory == "autograd"
        ratios[form.name, f"open_clip {form.exchange}" if same else REFERENCE] = NO_SLOWER if same else None
    constant = [form.name for form in ours if form.memory == "constant"]
    faster = min(constant, key=lambda name: ratio(measured, (name, REFERENCE)).value)
    at_most = FASTER_CONSTANT_AT_MOST.get((setup.world_size, setup.batch, setup.dim))
    ratios[faster, REFERENCE] = None if at_most is None else Requirement(bound="at most", ratio=at_most)
    return {**ratios, (faster, PRODUCTS): None, (REFERENCE, PRODUCTS): None}


def neighbours_first(forms: Sequence[Form]) -> list[Form]:
    """Order forms so that those of one exchange are measured one after the other, and so under the same conditions."""
    return sorted(forms, key=lambda form: EXCHANGES.index(form.exchange))


def slowest(ranks: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return each contestant's times, those of the slowest rank of each turn."""
    return {name: [max(times) for times in zip(*(rank[name] for rank in ranks), strict=True)] for name in ranks[0]}


# ------------------------------------------------------------------ in the ranks
def times_in_turn(
    forms: Sequence[Form], setup: Setup, turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run steps of each form in turn in this rank; return the seconds that each took, warm-up left out."""
    contestants = {form.name: Step(form, setup) for form in forms}
    runs: dict[str, Callable[[], None]] = {PRODUCTS: Products(setup), **contestants}
    if REFERENCE in contestants:
        runs[AGAIN] = contestants[REFERENCE]
    timed = {name: _timed(run, clock) for name, run in runs.items()}
    in_turn(timed, WARM_UP_TURNS)
    first, *others = contestants.values()
    for other in others:
        other.check_against(first)
    return in_turn(timed, turns)


def _timed(run: Callable[[], None], clock: Callable[[], float]) -> Callable[[], float]:
    def once() -> float:
        dist.barrier()
        started_s = clock()
        run()
        return clock() - started_s

    return once


def _recorded_step(form: Form, setup: Setup) -> list[WireReading]:
    """Run one step, count its operations into this rank's log, and read its sockets around each phase."""
    step, meter = Step(form, setup), wire_meter()
    with Recorder(context().log) as recorder:
        with meter.phase("forward"), recorder.phase("forward"):
            loss = step.forward()
        with meter.phase("backward"), recorder.phase("backward"):
            step.backward(loss)
    return meter.readings


# ------------------------------------------------------------------ in the parent
def _traffic(worlds: Worlds, form: Form, setup: Setup) -> Traffic:
    """Count what one step sends."""
    readings: list[list[WireReading]] = worlds.run(setup.world_size, _recorded_step, form, setup)
    events = read_logs(worlds.logs(setup.world_size)).events
    wire = attribute(readings)
    case = Case(exchange=form.exchange, world_size=setup.world_size, batch=setup.batch, dim=setup.dim, dtype="float32")
    totals = rank_totals(StepMessages(case=case, events=tuple(events), wire=None if wire is None else tuple(wire)))
    sent = [total.wire_bytes for total in totals if total.wire_bytes is not None]
    return Traffic(
        messages=max(total.sends for total in totals),
        collectives=max(total.collectives for total in totals),
        payload_bytes=max(total.payload_bytes for total in totals),
        wire_bytes=max(sent) if sent else None,
    )
